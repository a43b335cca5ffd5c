// SPDX-License-Identifier: Apache-2.0
// The generated corpus (support/packet-corpus.ts) through all four hooks: with everything on, with the plain stack between them,
// and with everything off. Whatever a packet is, it is dropped under a reason that is counted, passed as it came, or translated
// in nothing but what a translation owns (support/packet-oracle.ts); none that lies makes a record, and none leaves under a
// pod's address that should not.
//
// HOOKLINE_CORPUS=seed runs another corpus, HOOKLINE_CORPUS=seed:number only what leads to that packet.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { formatAddress } from "../../src/base/addr.ts";
import { withNetns } from "../../src/kernel/netns.ts";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { FlowEvent, FlowKey } from "../../src/maps/gen/types.ts";
import {
  DropReason,
  dropReasonText,
  EventKind,
  FlowState,
  FragmentFate,
  Hook,
} from "../../src/maps/gen/verdict.ts";
import { ALL_OFF, ALL_ON, HOOKS, type HookName } from "../support/datapath.ts";
import { openTranslated } from "../support/opened-flow.ts";
import { type Case, NODE_PORT, POD_PORT } from "../support/packet-bases.ts";
import { corpus } from "../support/packet-corpus.ts";
import { differences } from "../support/packet-fields.ts";
import { INTERNET, POD_A } from "../support/packet-node.ts";
import { judgeBytes, readShape, resetFor, type Shape } from "../support/packet-oracle.ts";
import { type Bench, reset } from "../support/packet-rows.ts";
import { TestRun } from "../support/test-run.ts";
import { forAll, Rig, toNet, UDP } from "../support/transports.ts";

const COUNT = 160_000;
/** Packets that share one state: the flow table is made anew after as many. */
const BATCH = 500;
const TABLE_SIZE = 8192;
const [SEED, ONLY] = (process.env.HOOKLINE_CORPUS ?? "1").split(":").map(Number) as [number, number?];
/** Emulated machines (test:kernels) run one batch of so many. */
const EVERY = process.env.HOOKLINE_TEST_RUN === "kernels" ? 80 : 1;
/** Of so many batches one consists of packets of unknown flows. */
const UNKNOWN = 4;
/** So many failures are shown. */
const SHOWN = 5;

const [PASS, DROP, REDIRECT] = [0xffff_ffff, 2, 7];
const NUMBER: Record<HookName, number> = {
  from_pod: Hook.HOOK_FROM_POD,
  to_pod: Hook.HOOK_TO_POD,
  from_net: Hook.HOOK_FROM_NET,
  to_net: Hook.HOOK_TO_NET,
};
const DEVICE = { from_pod: "hla", to_pod: "hla", from_net: "eth0", to_net: "eth0" } as const;
const { DROP_INVALID, DROP_CT_INVALID_HDR, DROP_INVALID_EXTHDR, DROP_FRAG_NOT_FOUND } = DropReason;
const LYING: readonly number[] = [DROP_INVALID, DROP_CT_INVALID_HDR, DROP_INVALID_EXTHDR];
/** Why a packet without a lie may be dropped. Of from_net and to_pod none is. */
const HONEST: Record<HookName, readonly number[]> = {
  from_pod: [
    DropReason.DROP_INVALID_SOURCE_IP,
    DropReason.DROP_CT_CANT_CREATE,
    DropReason.DROP_NAT_NO_MAPPING,
    DropReason.DROP_NAT_UNSUPP_PROTO,
    DropReason.DROP_FRAG_NOT_FOUND,
  ],
  to_pod: [],
  from_net: [],
  to_net: [
    DropReason.DROP_CT_CANT_CREATE,
    DropReason.DROP_NAT_NO_MAPPING,
    DropReason.DROP_NAT_UNSUPP_PROTO,
    DropReason.DROP_FRAG_NOT_FOUND,
  ],
};

let rig: Rig;
before(() => {
  rig = new Rig();
});
after(() => rig?.close());

const keyText = ({ saddr, daddr, sport, dport, proto }: FlowKey): string =>
  [saddr, daddr, sport, dport, proto].join(" ");

/** Whether an address is one that pods reach under their own: in the cluster, on this node, or excluded. */
function inside(address: string): boolean {
  if (!address.includes(":"))
    return /^(10\.244\.|203\.0\.113\.|127\.|172\.2[012]\.0\.1[12]$|172\.20\.0\.77$|172\.22\.0\.)/.test(
      address,
    );
  return /^(fd00:10:244:|2001:db8:113:(0:|:)|::1$|fd00:2[012]::1[12]$|fd00:20::77$|fd00:22:(0:|:))/.test(
    address,
  );
}

/** Counts of enum fragment_fate. */
type Fates = Record<"held" | "released" | "ended", number>;

interface Judged {
  readonly hook: HookName;
  readonly shape: Shape;
  readonly verdict: number;
  readonly waits: boolean;
}

/** One configuration and what has happened to the packets of the batch so far. */
class Trial {
  readonly bench: Bench;
  readonly run = new TestRun();
  readonly failures: string[] = [];
  readonly #host: boolean;
  readonly #off: boolean;
  /** Whether the kernel judges the device's sums. */
  readonly summed: boolean;
  #known = true;
  #tally = new Map<number, { packets: number; bytes: number }>();
  #fates: Fates = { held: 0, released: 0, ended: 0 };
  #endedBefore = 0;
  #opened = new Set<string>();

  constructor(config = ALL_ON) {
    this.bench = rig.load(config, TABLE_SIZE);
    this.#off = config.events === 0;
    this.#host = config.hostRouting === 1;
    this.bench.restore();
    const packet = UDP.open(toNet(4, INTERNET, POD_A), 1, 4).bytes();
    withNetns(rig.node.netns, () => this.run.probe(this.bench.datapath.program("to_pod"), packet));
    this.summed = this.run.summed;
  }

  /**
   * Pod a's flows of all transports stand, and nothing else. Or, if nobody knows them, none; then pods are told by RSTs, of which
   * the kernel cannot judge the device's sum: it takes the one of before, though nothing is summed any more.
   */
  begin(known: boolean): void {
    const { bench } = this;
    reset(bench);
    bench.datapath.table(MAPS.frag_datagrams).clear();
    bench.datapath.permitResets(!known);
    this.#known = known;
    this.run.summed = this.summed && known;
    if (!this.#off && known) {
      forAll((family, transport) =>
        openTranslated(bench, { family, transport, port: POD_PORT, xport: NODE_PORT, byStack: !this.#host }),
      );
    }
    bench.datapath.events();
    this.#opened = new Set(bench.datapath.flows.entries().map(([key]) => keyText(key)));
    this.#tally = this.#counted();
    this.#fates = this.#readFates();
    this.#endedBefore = this.#fates.ended;
  }

  /** What has become of fragments that came before their first. */
  #readFates(): Fates {
    const fates = new Map(this.bench.datapath.table(MAPS.frag_counts).entriesPerCpu());
    const of = (fate: number): number => (fates.get(fate) ?? []).reduce((sum, n) => sum + Number(n), 0);
    return {
      held: of(FragmentFate.FRAGMENT_HELD),
      released: of(FragmentFate.FRAGMENT_RELEASED),
      ended: of(FragmentFate.FRAGMENT_ENDED),
    };
  }

  /** Whether the packet is held, or comes by again with those that have waited for it: then it is neither counted nor told. */
  #waits(hook: HookName, shape: Shape): boolean {
    if (shape.kind !== "fragment" && !shape.first) return false;
    const before = this.#fates;
    this.#fates = this.#readFates();
    const { held, released } = this.#fates;
    if (shape.kind === "fragment") return hook !== "from_net" && held > before.held;
    return released > before.released;
  }

  /** What the counters say, by index. */
  #counted(): Map<number, { packets: number; bytes: number }> {
    const found = new Map<number, { packets: number; bytes: number }>();
    for (const [index, perCpu] of this.bench.datapath.table(MAPS.counters).entriesPerCpu()) {
      const packets = perCpu.reduce((sum, counter) => sum + Number(counter.packets), 0);
      const bytes = perCpu.reduce((sum, counter) => sum + Number(counter.bytes), 0);
      if (packets > 0) found.set(index, { packets, bytes });
    }
    return found;
  }

  /** Every packet must be counted, and every record be of a packet that may open one. */
  end(fail: (lines: string[]) => void): void {
    const lines: string[] = [];
    const counted = this.#counted();
    for (const index of new Set([...this.#tally.keys(), ...counted.keys()])) {
      const [wanted, got] = [this.#tally.get(index), counted.get(index)];
      // On a slow machine some have waited too long meanwhile.
      const late = (index & 255) === DROP_FRAG_NOT_FOUND && this.#readFates().ended > this.#endedBefore;
      if (late && (wanted?.packets ?? 0) <= (got?.packets ?? 0)) continue;
      if (wanted?.packets !== got?.packets || wanted?.bytes !== got?.bytes) {
        const what = `hook ${index >> 8}, ${dropReasonText[index & 255] ?? index & 255}`;
        lines.push(
          `counter of ${what}: expected ${wanted?.packets} ${wanted?.bytes}, actual ${got?.packets} ${got?.bytes}`,
        );
      }
    }
    for (const [key] of this.bench.datapath.flows.entries()) {
      if (!this.#opened.has(keyText(key))) lines.push(`a record that no packet opened: ${keyText(key)}`);
    }
    if (lines.length > 0) fail(lines);
  }

  #tallied(hook: HookName, reason: number, bytes: number): void {
    const index = 256 * NUMBER[hook] + reason;
    const before = this.#tally.get(index) ?? { packets: 0, bytes: 0 };
    this.#tally.set(index, { packets: before.packets + 1, bytes: before.bytes + bytes });
  }

  /** Runs one hook; what is wrong with what came of it, and the packet that goes on by the stack, if it does. */
  hook(hook: HookName, bytes: Uint8Array, shape: Shape): { lines: string[]; on?: Uint8Array } {
    const { datapath, devices } = this.bench;
    const ran = this.run.run(datapath.program(hook), bytes, { ifindex: devices[DEVICE[hook]] });
    const events = datapath.events();
    const waits = this.#waits(hook, shape);
    // The buffer in which those that waited have left has lost its device's sum: the kernel makes its own.
    const verdict = waits && ran === "EBADMSG" && shape.first ? DROP : ran;
    if (typeof verdict === "string") return { lines: [`refused with ${verdict}`] };
    if (waits && verdict !== DROP) return { lines: [`verdict ${verdict}, though it waits`] };
    const answer = this.#answer(hook, shape, bytes, events);
    const judged = answer && verdict === REDIRECT ? DROP : verdict;
    const lines = this.#judgeVerdict({ hook, shape, verdict: judged, waits }, events);
    if (answer && verdict === DROP) lines.push("not answered by a RST");
    if (!waits)
      this.#tallied(hook, events.find((e) => e.kind === EventKind.EVENT_DROP)?.reason ?? 0, bytes.length);
    if (verdict === DROP) return { lines };
    const out = this.run.out.slice();
    if (answer !== undefined) return { lines: [...lines, ...differences(answer, out)] };
    const untouched = shape.kind === "not-ip" || shape.kind === "malformed" || this.#off;
    if (untouched && (verdict !== PASS || Buffer.compare(bytes, out) !== 0)) lines.push("touched");
    else lines.push(...judgeBytes(shape, bytes, out, verdict === REDIRECT));
    if (!this.#off && verdict === REDIRECT && hook === "from_pod") lines.push(...this.#leaks(out, shape));
    return verdict === PASS ? { lines, on: out } : { lines };
  }

  /** The RST that a pod gets for a packet that was dropped, if it gets one. */
  #answer(hook: HookName, shape: Shape, bytes: Uint8Array, events: FlowEvent[]): Uint8Array | undefined {
    const unknown = events.some((event) => event.reason === DropReason.DROP_CT_CANT_CREATE);
    return unknown && !this.#known && hook === "from_pod" ? resetFor(shape, bytes) : undefined;
  }

  #judgeVerdict({ hook, shape, verdict, waits }: Judged, events: FlowEvent[]): string[] {
    const lines: string[] = [];
    const drops = events.filter((event) => event.kind === EventKind.EVENT_DROP);
    const [drop] = drops;
    const entry = hook === "from_pod" || hook === "from_net";
    if (verdict !== PASS && verdict !== DROP && !(verdict === REDIRECT && entry && this.#host))
      lines.push(`verdict ${verdict}`);
    if (this.#off) return verdict === PASS && events.length === 0 ? lines : [...lines, "not left alone"];
    if (drops.length !== (verdict === DROP && !waits ? 1 : 0))
      lines.push(`verdict ${verdict} with ${drops.length} drop events`);
    if (drop) {
      const allowed = shape.kind === "malformed" && entry ? LYING : HONEST[hook];
      if (!allowed.includes(drop.reason)) lines.push(`dropped: ${dropReasonText[drop.reason]}`);
    } else if (shape.kind === "malformed" && entry) {
      lines.push(`not dropped, though ${shape.why}`);
    }
    for (const event of events) {
      if (event.hook !== NUMBER[hook]) lines.push(`event of hook ${event.hook}`);
      if (event.kind !== EventKind.EVENT_NEW_FLOW) continue;
      this.#opened.add(keyText(event));
      if (shape.kind !== "fragment" && !shape.opens) lines.push("opened a flow");
    }
    return lines;
  }

  /** A packet that leaves the node under a pod's address, though nobody outside can answer that. */
  #leaks(out: Uint8Array, { v6, kind, protocol }: Shape): string[] {
    if (kind === "not-ip" || kind === "link" || kind === "malformed") return [];
    const [at, size] = v6 ? [22, 16] : [26, 4];
    const text = (from: number): string => {
      const part = out.subarray(from, from + size);
      return v6 ? formatAddress(part) : part.join(".");
    };
    const [src, dst] = [text(at), text(at + size)];
    if (src !== POD_A[v6 ? 6 : 4] || inside(dst)) return [];
    const records = this.bench.datapath.flows.entries();
    // An error may be about any protocol, and fragments of IPv6 do not tell theirs.
    const told = kind !== "error" && kind !== "fragment";
    const answers = records.some(
      ([key, flow]) =>
        key.saddr === dst &&
        key.daddr === src &&
        flow.state & FlowState.FLOW_INBOUND &&
        (key.proto === protocol || !told),
    );
    return answers && kind !== "icmp" ? [] : [`leaves under the pod's address to ${dst}`];
  }

  /** Runs all hooks, and to_net once more on what from_pod left to the stack. */
  packet({ bytes }: Case): string[] {
    const shape = readShape(bytes);
    const lines: string[] = [];
    const say = (hook: string, found: string[]): void => {
      if (found.length > 0) lines.push(`${hook}: ${found.join("; ")}`);
    };
    for (const hook of HOOKS) {
      const { lines: found, on } = this.hook(hook, bytes, shape);
      say(hook, found);
      if (hook !== "from_pod" || !on || this.#off) continue;
      const left = this.hook("to_net", on, readShape(on));
      say("to_net after from_pod", [
        ...left.lines,
        ...(left.on ? this.#leaks(left.on, readShape(left.on)) : []),
      ]);
    }
    return lines;
  }
}

function runCorpus(name: string, config = ALL_ON): void {
  test(`the corpus, ${name}`, (t) => {
    const trial = new Trial(config);
    let number = 0;
    let ran = 0;
    let failed = 0;
    const shown: string[] = [];
    const fail = (at: number, what: string, lines: string[]): void => {
      failed++;
      if (shown.length < SHOWN) shown.push([`${at}: ${what}`, ...lines].join("\n    "));
    };
    withNetns(rig.node.netns, () => {
      for (const made of corpus(SEED, COUNT)) {
        const begins = number % BATCH === 0;
        const wanted =
          ONLY === undefined
            ? Math.floor(number / BATCH) % EVERY === 0
            : number <= ONLY && number >= ONLY - (ONLY % BATCH);
        if (wanted) {
          if (begins) trial.begin(Math.floor(number / BATCH / EVERY) % UNKNOWN !== UNKNOWN - 1);
          const lines = trial.packet(made);
          ran++;
          if (lines.length > 0) fail(number, made.name, [...lines, Buffer.from(made.bytes).toString("hex")]);
          if (number % BATCH === BATCH - 1)
            trial.end((found) => fail(number, "at the end of its batch", found));
        }
        number++;
      }
    });
    t.diagnostic(
      `seed ${SEED}: ${ran} of ${number} packets, device's sums ${trial.summed ? "judged" : "not judged by this kernel"}`,
    );
    assert.ok(number >= 100_000);
    const rerun = `HOOKLINE_CORPUS=${SEED}:NUMBER node_modules/.bin/node --test test/packet/corpus.test.ts`;
    assert.equal(
      failed,
      0,
      `${failed} packets of seed ${SEED} failed; one of them again: ${rerun}\n  ${shown.join("\n  ")}`,
    );
  });
}

runCorpus("everything on");
runCorpus("over the plain stack", { ...ALL_ON, hostRouting: 0 });
runCorpus("everything off", ALL_OFF);
