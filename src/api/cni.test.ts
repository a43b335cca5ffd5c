// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { silentLog } from "../base/log.ts";
import { Ipam } from "../engine/ipam/engine.ts";
import { ipamSpec, type Lease } from "../engine/ipam/spec.ts";
import { type CniBackend, CniHandler } from "./cni.ts";
import { deletesDir, queueDelete, queuedDeletes } from "./cni-deletes.ts";
import type { CniConfig, CniErrorBody, CniRequest } from "./cni-protocol.ts";
import { type CniResult, cniResult, type PodInterface, resultDifferences } from "./cni-result.ts";

const pod: PodInterface = {
  hostIfName: "hl0123456789",
  hostMac: "02:00:00:00:00:01",
  ifName: "eth0",
  mac: "02:00:00:00:00:02",
  netns: "/run/netns/x",
  mtu: 1500,
  ipv4: "10.0.0.2",
  ipv6: "fd00::2",
};

const config = (cniVersion = "1.1.0", extra = {}): CniConfig => ({
  cniVersion,
  name: "net",
  type: "hookline",
  ...extra,
});

const formats: [version: string, mtu: boolean, ipVersion: boolean][] = [
  ["0.3.1", false, true],
  ["0.4.0", false, true],
  ["1.0.0", false, false],
  ["1.1.0", true, false],
];
for (const [version, mtu, ipVersion] of formats) {
  test(`the result in ${version} has ${mtu ? "an" : "no"} MTU and ${ipVersion ? "a" : "no"} version per address`, () => {
    assert.deepEqual(cniResult(config(version), undefined, pod), {
      cniVersion: version,
      interfaces: [
        { name: "hl0123456789", mac: "02:00:00:00:00:01" },
        { name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/run/netns/x", ...(mtu ? { mtu: 1500 } : {}) },
      ],
      ips: [
        {
          ...(ipVersion ? { version: "4" } : {}),
          interface: 1,
          address: "10.0.0.2/32",
          gateway: "169.254.1.1",
        },
        { ...(ipVersion ? { version: "6" } : {}), interface: 1, address: "fd00::2/128", gateway: "fe80::1" },
      ],
      routes: [
        { dst: "0.0.0.0/0", gw: "169.254.1.1" },
        { dst: "::/0", gw: "fe80::1" },
      ],
      dns: {},
    });
  });
}

test("results of earlier plugins stay in front and keep their indexes", () => {
  const earlier = {
    interfaces: [{ name: "lo" }],
    ips: [{ interface: 0, address: "127.0.0.1/8" }],
    routes: [{ dst: "10.0.0.0/8" }],
    dns: { nameservers: ["10.0.0.53"] },
  };
  const result = cniResult(config("1.0.0"), earlier, pod);
  assert.deepEqual(
    result.interfaces.map((i) => i.name),
    ["lo", "hl0123456789", "eth0"],
  );
  assert.deepEqual(
    result.ips.map((i) => i.interface),
    [0, 2, 2],
  );
  assert.equal(result.routes.length, 3);
  assert.deepEqual(result.dns, { nameservers: ["10.0.0.53"] });
  assert.deepEqual(resultDifferences(result, pod), []);
});

const differences: [name: string, change: (r: CniResult) => unknown, expected: RegExp][] = [
  ["no interface of ours", () => ({ interfaces: [] }), /lists no interface eth0 in \/run\/netns\/x/],
  [
    "another MAC address",
    (r) => ({ ...r, interfaces: r.interfaces.map((i) => ({ ...i, mac: "02:00:00:00:00:09" })) }),
    /eth0 has MAC address 02:00:00:00:00:02, the result of ADD says 02:00:00:00:00:09/,
  ],
  [
    "another address",
    (r) => ({ ...r, ips: [{ interface: 1, address: "10.0.0.9/32" }] }),
    /10\.0\.0\.9\/32 is not held by this container/,
  ],
  ["nonsense for an address", (r) => ({ ...r, ips: [{ interface: 1, address: 7 }] }), /7 is not held/],
];
for (const [name, change, expected] of differences) {
  test(`CHECK sees a result with ${name}`, () => {
    assert.match(resultDifferences(change(cniResult(config(), undefined, pod)), pod).join(), expected);
  });
}

/** The node without a kernel: addresses only. */
class Addresses implements CniBackend {
  readonly ipam = new Ipam(ipamSpec(["10.0.0.0/29", "fd00::/64"]));
  why: string | undefined;
  broken = "";
  notReady(): string | undefined {
    return this.why;
  }
  add(request: CniRequest): PodInterface {
    const { containerId, ifName, netns } = request;
    return this.pod(this.ipam.allocate({ containerId, ifName, network: request.config.name }), netns);
  }
  remove(attachment: { containerId: string; ifName: string }): boolean {
    if (attachment.containerId === this.broken) throw new Error("device is busy");
    return this.ipam.release(attachment) !== undefined;
  }
  check(request: CniRequest): { pod: PodInterface; problems: string[] } | undefined {
    const lease = this.ipam.lease(request);
    return lease && { pod: this.pod(lease, request.netns), problems: this.why ? [this.why] : [] };
  }
  attachments(network: string): { containerId: string; ifName: string }[] {
    return this.ipam.leaked(network, []).map((l) => l.owner);
  }
  private pod({ ipv4, ipv6, owner }: Lease, netns: string): PodInterface {
    return { ...pod, ifName: owner.ifName, netns, ...(ipv4 ? { ipv4 } : {}), ...(ipv6 ? { ipv6 } : {}) };
  }
}

let runDir: string;
let backend: Addresses;
let handler: CniHandler;
beforeEach(() => {
  runDir = mkdtempSync(join(tmpdir(), "hlt-cni-"));
  backend = new Addresses();
  handler = new CniHandler({ backend, runDir, log: silentLog() });
});
afterEach(() => rmSync(runDir, { recursive: true, force: true }));

const request = (containerId: string, extra: Partial<CniRequest> = {}): CniRequest => ({
  containerId,
  ifName: "eth0",
  netns: "/run/netns/x",
  args: {},
  podName: "",
  podNamespace: "",
  config: config(),
  ...extra,
});

async function refusal(command: string, body: unknown): Promise<CniErrorBody> {
  const answer = await handler.handle(command, body);
  assert.ok(answer.status >= 400, JSON.stringify(answer));
  return answer.body as CniErrorBody;
}

async function done(command: string, body: unknown): Promise<CniResult> {
  const answer = await handler.handle(command, body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body as CniResult;
}

test("ADD again gives the same result, CHECK accepts it, DEL and DEL again succeed, CHECK then knows nothing", async () => {
  const result = await done("add", request("c1"));
  assert.deepEqual(await done("add", request("c1")), result);
  await done("check", request("c1", { prevResult: result }));
  await done("del", request("c1", { netns: "" }));
  await done("del", request("c1", { netns: "" }));
  assert.equal((await refusal("check", request("c1", { prevResult: result }))).code, 3);
  assert.equal(backend.ipam.leases().length, 0);
});

test("exhaustion has its own code and names CIDR and counts", async () => {
  for (let i = 0; i < 5; i++) await done("add", request(`c${i}`));
  const error = await refusal("add", request("c9"));
  assert.equal(error.code, 100);
  assert.match(error.msg, /no free IPv4 address in 10\.0\.0\.0\/29: 5 of 5 in use/);
});

test("a node that is not ready refuses ADD with 11 and STATUS with 50, and says why", async () => {
  backend.why = "no Node object yet";
  const add = await refusal("add", request("c1"));
  assert.deepEqual([add.code, add.details], [11, "no Node object yet"]);
  const status = await refusal("status", request(""));
  assert.deepEqual([status.code, status.details], [50, "no Node object yet"]);
});

test("CHECK reports what the engine finds", async () => {
  const result = await done("add", request("c1"));
  backend.why = "device is down";
  const error = await refusal("check", request("c1", { prevResult: result }));
  assert.deepEqual([error.code, error.details], [102, "device is down"]);
});

test("GC removes what the runtime does not list, of that network only", async () => {
  await done("add", request("c1"));
  await done("add", request("c2"));
  await done("add", request("c3", { config: config("1.1.0", { name: "other" }) }));
  await done("gc", request("", { ifName: "", validAttachments: [{ containerId: "c2", ifName: "eth0" }] }));
  assert.deepEqual(
    backend.ipam.leases().map((l) => l.owner.containerId),
    ["c2", "c3"],
  );
});

test("GC goes on after a failure and reports it", async () => {
  for (const id of ["c1", "c2"]) await done("add", request(id));
  backend.broken = "c1";
  const error = await refusal("gc", request("", { ifName: "", validAttachments: [] }));
  assert.match(error.details ?? "", /c1\/eth0: device is busy/);
  assert.deepEqual(
    backend.ipam.leases().map((l) => l.owner.containerId),
    ["c1"],
  );
});

test("GC without a list removes nothing", async () => {
  await done("add", request("c1"));
  assert.equal((await refusal("gc", request("", { ifName: "" }))).code, 7);
  assert.equal(backend.ipam.leases().length, 1);
});

const nonsense: [name: string, body: unknown][] = [
  ["nothing", undefined],
  ["a text", "x"],
  ["no configuration", { ...request("c1"), config: undefined }],
  ["an unknown version", request("c1", { config: config("7.0.0") })],
  ["a container id that is a number", { ...request("c1"), containerId: 1 }],
  ["arguments that are no texts", { ...request("c1"), args: { A: {} } }],
  ...["../c", "c/../../x", "c\0", "c d", "..", "ä", "c".repeat(201)].map((id): [string, unknown] => [
    `the container id ${JSON.stringify(id.slice(0, 20))}`,
    request(id),
  ]),
  ...["../eth0", "..", "eth 0", "eth0\0", "eth0:1", "e".repeat(16), "é".repeat(8)].map(
    (ifName): [string, unknown] => [`the interface ${JSON.stringify(ifName)}`, request("c1", { ifName })],
  ),
  ...["..", "../kube-system", "a/b", "a b", "a\0", "a?b", "%2e%2e", "p".repeat(300)].flatMap(
    (name): [string, unknown][] => [
      [`the pod ${JSON.stringify(name.slice(0, 20))}`, request("c1", { podName: name })],
      [`the namespace ${JSON.stringify(name.slice(0, 20))}`, request("c1", { podNamespace: name })],
      [
        `the network ${JSON.stringify(name.slice(0, 20))}`,
        request("c1", { config: config("1.1.0", { name }) }),
      ],
    ],
  ),
  ...["x", "../x", "/run/netns/x\0y", `/${"x".repeat(4096)}`].map((netns): [string, unknown] => [
    `the network namespace ${JSON.stringify(netns.slice(0, 20))}`,
    request("c1", { netns }),
  ]),
];
for (const [name, body] of nonsense) {
  test(`a request with ${name} is refused as undecodable`, async () => {
    for (const command of ["add", "del", "check", "gc"]) assert.equal((await refusal(command, body)).code, 6);
    assert.equal(backend.ipam.leases().length, 0);
  });
}

test("an unknown command is refused", async () => {
  assert.equal((await handler.handle("move", request("c1"))).status, 404);
});

test("queued DELs are done before the first ADD, files that others could write are not believed", async () => {
  for (const id of ["c1", "c2", "c3"]) await done("add", request(id));
  queueDelete(runDir, request("c1"));
  queueDelete(runDir, request("c2"));
  queueDelete(runDir, request("unknown"));
  chmodSync(join(deletesDir(runDir), "c2@eth0.json"), 0o622);
  writeFileSync(join(deletesDir(runDir), "broken.json"), "{", { mode: 0o600 });
  const drained = handler.drainDeletes();
  const added = done("add", request("c4"));
  assert.equal(await drained, 2);
  await added;
  assert.deepEqual(
    backend.ipam.leases().map((l) => l.owner.containerId),
    ["c2", "c3", "c4"],
  );
  assert.equal(queuedDeletes(runDir).length, 2, "what is not believed stays for a person to see");
});

test("ADD forgets a queued DEL of the same container", async () => {
  queueDelete(runDir, request("c1"));
  await done("add", request("c1"));
  assert.equal(await handler.drainDeletes(), 0);
  assert.equal(backend.ipam.leases().length, 1);
});
