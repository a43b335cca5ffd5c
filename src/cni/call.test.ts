// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { readArgs, readCall } from "./call.ts";
import { CniError } from "./errors.ts";

const config = { cniVersion: "1.1.0", name: "net", type: "hookline" };
const env = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "c1",
  CNI_NETNS: "/run/netns/x",
  CNI_IFNAME: "eth0",
  CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
};

const refused: [name: string, env: Record<string, string>, config: unknown, code: number, details: RegExp][] =
  [
    ["no command", { CNI_COMMAND: "" }, config, 4, /must be one of ADD, DEL/],
    ["an unknown command", { CNI_COMMAND: "MOVE" }, config, 4, /CNI_COMMAND is "MOVE"/],
    ["no JSON", {}, "{", 6, /JSON/],
    ["a JSON list", {}, "[]", 6, /^$/],
    ["no version", {}, { ...config, cniVersion: undefined }, 1, /cniVersion is missing/],
    [
      "a version of the future",
      {},
      { ...config, cniVersion: "2.0.0" },
      1,
      /"2\.0\.0"; supported are 0\.3\.1/,
    ],
    [
      "CHECK in 0.3.1",
      { CNI_COMMAND: "CHECK" },
      { ...config, cniVersion: "0.3.1" },
      1,
      /CHECK needs cniVersion 0\.4\.0/,
    ],
    [
      "GC in 1.0.0",
      { CNI_COMMAND: "GC" },
      { ...config, cniVersion: "1.0.0" },
      1,
      /GC needs cniVersion 1\.1\.0/,
    ],
    ["no name", {}, { ...config, name: "" }, 7, /name is ""/],
    ["a name with a slash", {}, { ...config, name: "../x" }, 7, /name is "\.\.\/x"/],
    ["no type", {}, { ...config, type: "" }, 7, /type is missing/],
    ["an IPAM plugin", {}, { ...config, ipam: { type: "host-local" } }, 2, /ipam\.type is "host-local"/],
    ["a relative run directory", {}, { ...config, runDir: "run" }, 7, /runDir is "run"/],
    ["a log file that is no text", {}, { ...config, logFile: 1 }, 7, /logFile is 1/],
    ["prevResult that is no object", {}, { ...config, prevResult: [] }, 7, /prevResult is not an object/],
    ["CHECK without prevResult", { CNI_COMMAND: "CHECK" }, config, 7, /prevResult is missing/],
    ["GC without attachments", { CNI_COMMAND: "GC" }, config, 7, /valid-attachments is missing/],
    [
      "GC with a wrong attachment",
      { CNI_COMMAND: "GC" },
      { ...config, "cni.dev/valid-attachments": [{ containerID: "c" }] },
      7,
      /valid-attachments\[0\] needs/,
    ],
    ["no container id", { CNI_CONTAINERID: "" }, config, 4, /CNI_CONTAINERID is ""/],
    ["a container id that climbs", { CNI_CONTAINERID: "../../etc" }, config, 4, /CNI_CONTAINERID is/],
    ["a container id of 201 letters", { CNI_CONTAINERID: "a".repeat(201) }, config, 4, /1 to 200/],
    ["no interface name", { CNI_IFNAME: "" }, config, 4, /CNI_IFNAME is ""/],
    [
      "an interface name of 16 letters",
      { CNI_IFNAME: "a".repeat(16) },
      config,
      4,
      /not a valid interface name/,
    ],
    ["an interface name of 16 bytes", { CNI_IFNAME: "é".repeat(8) }, config, 4, /not a valid interface name/],
    ["an interface name with a slash", { CNI_IFNAME: "a/b" }, config, 4, /not a valid interface name/],
    ["an interface named ..", { CNI_IFNAME: ".." }, config, 4, /not a valid interface name/],
    ["no network namespace", { CNI_NETNS: "" }, config, 4, /CNI_NETNS is ""/],
    ["arguments without =", { CNI_ARGS: "A=1;B" }, config, 4, /"B" is not KEY=value/],
  ];
for (const [name, changes, stdin, code, details] of refused) {
  test(`a call with ${name} is refused with code ${code}`, () => {
    const text = typeof stdin === "string" ? stdin : JSON.stringify(stdin);
    assert.throws(
      () => readCall({ ...env, ...changes }, text),
      (thrown) => {
        assert.ok(thrown instanceof CniError, String(thrown));
        assert.equal(thrown.code, code, thrown.details);
        assert.match(thrown.details, details);
        return true;
      },
    );
  });
}

test("ADD is passed on with the pod's name and the defaults for paths", () => {
  const call = readCall(env, JSON.stringify({ ...config, mtu: 9000 }));
  assert.deepEqual(call, {
    command: "ADD",
    cniVersion: "1.1.0",
    runDir: "/run/hookline",
    agentSocket: "/run/hookline/agent.sock",
    logFile: undefined,
    request: {
      containerId: "c1",
      ifName: "eth0",
      netns: "/run/netns/x",
      args: { IgnoreUnknown: "1", K8S_POD_NAMESPACE: "default", K8S_POD_NAME: "web-0" },
      podName: "web-0",
      podNamespace: "default",
      config: { ...config, mtu: 9000 },
    },
  });
});

test("DEL needs no network namespace", () => {
  const call = readCall({ ...env, CNI_COMMAND: "DEL", CNI_NETNS: "" }, JSON.stringify(config));
  assert.equal(call.request.netns, "");
});

test("the socket follows runDir, agentSocket overrides it", () => {
  const own = { ...config, runDir: "/run/a" };
  assert.equal(readCall(env, JSON.stringify(own)).agentSocket, "/run/a/agent.sock");
  const both = { ...own, agentSocket: "/run/b.sock" };
  assert.equal(readCall(env, JSON.stringify(both)).agentSocket, "/run/b.sock");
});

for (const field of ["cni.dev/valid-attachments", "cni.dev/attachments"]) {
  test(`GC reads ${field}`, () => {
    const stdin = JSON.stringify({ ...config, [field]: [{ containerID: "c1", ifname: "eth0" }] });
    const call = readCall({ CNI_COMMAND: "GC" }, stdin);
    assert.deepEqual(call.request.validAttachments, [{ containerId: "c1", ifName: "eth0" }]);
  });
}

const versions: [stdin: string, version: string][] = [
  ["", "1.1.0"],
  ['{"cniVersion":"0.4.0"}', "0.4.0"],
  ['{"cniVersion":"9.9.9"}', "1.1.0"],
];
for (const [stdin, version] of versions) {
  test(`VERSION with ${stdin || "nothing"} on standard input answers in ${version}`, () => {
    // Old libcni sets every variable to "dummy" or nothing.
    const call = readCall({ CNI_COMMAND: "VERSION", CNI_CONTAINERID: "", CNI_NETNS: "dummy" }, stdin);
    assert.equal(call.cniVersion, version);
  });
}

test("a value in CNI_ARGS may hold an equals sign", () => {
  assert.deepEqual(readArgs("A=b=c;;D="), { A: "b=c", D: "" });
});
