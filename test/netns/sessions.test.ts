// SPDX-License-Identifier: Apache-2.0
// Protocols without ports between real raw sockets of the outside and of pods: who opened decides under which address a pod's
// packets leave, in both modes and while the mode changes; large ones in fragments, and the errors about those that nobody hears.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { FlowRow } from "../../src/cli/flows.ts";
import { ask } from "../support/ask.ts";
import { answerAlways } from "../support/far.ts";
import { FAMILIES, type Family, ModesNode } from "../support/modes-node.ts";
import { GATEWAY_ADDRESS, INTERNET_ADDRESS, NODE_ADDRESS } from "../support/netns.ts";
import { RawTalk } from "../support/raw-talk.ts";

const PROTOCOLS = { GRE: 47, experimental: 253 } as const;
type Name = keyof typeof PROTOCOLS;
const NAMES = Object.keys(PROTOCOLS) as Name[];
/** Begins as a GRE header (RFC 2784): netfilter translates no other. */
const HEAD = "\0\0\x08\0";
/** More than the cable takes. */
const LARGE = "large ".repeat(700);
/** What the kernel makes of "protocol unreachable", and of "unrecognized next header". */
const UNKNOWN: Readonly<Record<Family, string>> = { 4: "ENOPROTOOPT", 6: "EPROTO" };

let node: ModesNode;
before(async () => {
  node = await ModesNode.build();
  answerAlways(node.pod(0).netns);
});
after(() => node?.[Symbol.asyncDispose]());

/** The pod's end of what one of the outside's addresses may say to it. */
const inPod = (f: Family, name: Name, outside: string, pod = 0): RawTalk =>
  new RawTalk({
    netns: node.pod(pod).netns,
    protocol: PROTOCOLS[name],
    local: node.pod(pod).address[f],
    peer: outside,
  });

/** The outside's end at one of its addresses, which hears `peer` only. */
const outsideAt = (f: Family, name: Name, peer: string, local: string = GATEWAY_ADDRESS[f]): RawTalk =>
  new RawTalk({ netns: node.world.outside, protocol: PROTOCOLS[name], local, peer });

for (const mode of ["BPF", "IPTables"] as const) {
  describe(`mode ${mode}`, () => {
    before(() => node.enter(mode));
    for (const f of FAMILIES) {
      for (const name of NAMES) {
        test(`IPv${f} ${name} that the outside begins is answered under the pod's own address`, async () => {
          using far = outsideAt(f, name, node.pod(0).address[f]);
          using pod = inPod(f, name, GATEWAY_ADDRESS[f]);
          for (const what of ["once", "again", LARGE]) {
            const text = `${HEAD}${what}`;
            far.say(text);
            await pod.hears(text);
            pod.say(`${text}, answered`);
            await far.hears(`${text}, answered`);
          }
        });

        test(`IPv${f} ${name} that a pod begins ${mode === "BPF" ? "does not leave" : "leaves under the node's address"}`, async () => {
          const internet = INTERNET_ADDRESS[f];
          using untranslated = outsideAt(f, name, node.pod(1).address[f], internet);
          using translated = outsideAt(f, name, NODE_ADDRESS[f], internet);
          using pod = inPod(f, name, internet, 1);
          const first = `${HEAD}first`;
          pod.say(first);
          if (mode === "IPTables") await translated.hears(first);
          // What comes behind it overtakes nothing.
          const { peer } = await ask(node.pod(1).netns, `udp:${internet}`);
          assert.equal(peer, NODE_ADDRESS[f]);
          assert.deepEqual([untranslated.heard(), translated.heard()], [undefined, undefined]);
        });
      }

      test(`IPv${f} a pod in which nobody hears the protocol says so`, async () => {
        using far = outsideAt(f, "experimental", node.pod(0).address[f], INTERNET_ADDRESS[f]);
        far.say("anybody?");
        await far.hears(UNKNOWN[f]);
      });
    }
  });
}

test("sessions are listed by name and number, with addresses alone", async () => {
  await node.enter("BPF");
  const { stdout } = await node.world.run(node.world.node, [
    ...node.agent.hookline,
    ...[
      "--run-dir",
      node.agent.runDir,
      "bpf",
      "flow",
      "list",
      "--traffic-direction",
      "ingress",
      "-o",
      "json",
    ],
  ]);
  const rows: FlowRow[] = JSON.parse(stdout);
  for (const f of FAMILIES) {
    for (const proto of ["GRE", "IP protocol 253"]) {
      const found = rows.filter((row) => row.proto === proto && row.source === GATEWAY_ADDRESS[f]);
      assert.deepEqual(
        found.map(({ destination, translatedSource, state, masqueraded }) => [
          destination,
          translatedSource,
          state,
          masqueraded,
        ]),
        [[node.pod(0).address[f], GATEWAY_ADDRESS[f], "established", false]],
      );
    }
  }
});

for (const f of FAMILIES) {
  test(`IPv${f} what the outside began goes on under the pod's own address while the mode changes, there and back`, async () => {
    await node.enter("BPF");
    using far = outsideAt(f, "GRE", node.pod(1).address[f]);
    using pod = inPod(f, "GRE", GATEWAY_ADDRESS[f], 1);
    far.say(`${HEAD}begins`);
    await pod.hears(`${HEAD}begins`);
    for (const mode of ["IPTables", "BPF"] as const) {
      await node.enter(mode);
      const text = `${HEAD}still there in ${mode}`;
      pod.say(text);
      await far.hears(text);
    }
  });
}
