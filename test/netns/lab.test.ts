// SPDX-License-Identifier: Apache-2.0
// A lab of two nodes, through the built command: what the demonstration promises, kubectl, every verb in every format,
// errors that say what to do, and nothing left when it is down.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";
import { waitFor } from "../../src/base/async.ts";
import { listNetns } from "../../src/kernel/netns.ts";
import { agentPid, finished, hookline, labName, output, remainsOf, startHookline } from "../support/lab.ts";

const lab = labName();
const node1 = ["--lab", lab, "--node", "node1"];
const kubeconfig = `/run/hookline/labs/${lab}/kubeconfig`;

async function kubectl(words: string[], input = ""): Promise<string> {
  const child = spawn("kubectl", ["--kubeconfig", kubeconfig, ...words], { stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(input);
  const { status, stdout, stderr } = await finished(child);
  assert.equal(status, 0, `kubectl ${words.join(" ")}: ${stderr}`);
  return stdout;
}

interface Sighting {
  server: string;
  peer: string;
}

async function curl(pod: string, url: string): Promise<Sighting> {
  return JSON.parse(
    await output("--lab", lab, "lab", "exec", pod, "--", "curl", "-sS", "--max-time", "20", url),
  );
}

interface LabPod {
  name: string;
  node: string;
  phase: string;
  addresses: string[];
}

async function pods(): Promise<LabPod[]> {
  return JSON.parse(await output("lab", "status", "--name", lab, "-o", "json")).pods;
}

/** A Pod that runs, with its addresses. */
function runningPod(name: string): Promise<LabPod> {
  return waitFor(
    `pod ${name} to run`,
    async () => (await pods()).find((pod) => pod.name === name && pod.phase === "Running"),
    { intervalMs: 200 },
  );
}

const manifest = (name: string, extra = ""): string => `apiVersion: v1
kind: Pod
metadata: { name: ${name} }
spec:
  ${extra}
  containers: [{ name: main, image: any }]
`;

describe(`lab ${lab}`, () => {
  before(async () => {
    await output("lab", "up", "--name", lab, "--nodes", "2", "--pods-per-node", "1", "--mtu", "1400");
  });
  after(async () => {
    await hookline("lab", "down", "--name", lab);
  });

  test("status: two nodes whose agents are well, two pods that run with both families", async () => {
    const status = JSON.parse(await output("lab", "status", "--name", lab, "-o", "json"));
    assert.deepEqual(
      status.nodes.map((n: { name: string; agent: string }) => [n.name, n.agent]),
      [
        ["node1", "ok"],
        ["node2", "ok"],
      ],
    );
    assert.deepEqual(
      status.pods.map((p: LabPod) => [p.name, p.node, p.phase, p.addresses.length]),
      [
        ["pod-1-1", "node1", "Running", 2],
        ["pod-2-1", "node2", "Running", 2],
      ],
    );
  });

  test("the demonstration: every step holds", async () => {
    const { status, stdout } = await hookline("lab", "demo", "--name", lab);
    assert.equal(status, 0, stdout);
    const held = stdout.match(/^ {3}✓ /gm)?.length ?? 0;
    assert.equal(held, 7, stdout);
    assert.match(stdout, /The server saw 172\.20\.0\.11: node1's address, not the pod's 10\.244\.1\.\d+\./);
    assert.match(stdout, /XLATE_SRC \[fd00:20::11\]:\d+ Created=\d+sec ago NeedsCT=0/);
  });

  test("what kubectl shows is what is there", async () => {
    const nodes = await kubectl(["get", "nodes", "-o", "wide"]);
    assert.match(nodes, /^node1 .*172\.20\.0\.11/m);
    const wide = await kubectl(["get", "pods", "-A", "-o", "wide"]);
    for (const pod of await pods()) {
      const row = new RegExp(`^default +${pod.name} +1/1 +Running .*${pod.addresses[0]} +${pod.node}`, "m");
      assert.match(wide, row);
    }
  });

  test("a Pod that kubectl applies is bound, runs, is reached, and leaves nothing when it is deleted", async () => {
    await kubectl(["apply", "-f", "-"], manifest("extra"));
    const pod = await runningPod("extra");
    assert.ok(["node1", "node2"].includes(pod.node), `bound to ${pod.node}`);
    const target = (await pods()).find((p) => p.name === "pod-2-1");
    const { server, peer } = await curl("extra", `http://${target?.addresses[0]}/`);
    assert.deepEqual([server, peer], ["pod-2-1", pod.addresses[0]]);
    await kubectl(["delete", "pod", "extra", "--wait=true"]);
    await waitFor("its namespace to go", () => !listNetns().includes(`hl-${lab}-${pod.node}-extra`));
    const { stdout } = await hookline("--lab", lab, "--node", pod.node, "endpoint", "get", "default/extra");
    assert.equal(stdout, "");
  });

  test("a Pod that names a program runs it, and ends when the program does", async () => {
    const command = "restartPolicy: Never\n  nodeName: node1";
    const text = manifest("job", command).replace(
      "image: any",
      'image: any, command: ["sh", "-c", "exit 3"]',
    );
    await kubectl(["apply", "-f", "-"], text);
    const phase = () => kubectl(["get", "pod", "job", "-o", "jsonpath={.status.phase}"]);
    await waitFor("the Pod to fail", async () => (await phase()) === "Failed");
    const path = "{.status.containerStatuses[0].state.terminated.exitCode}";
    assert.equal(await kubectl(["get", "pod", "job", "-o", `jsonpath=${path}`]), "3");
    await kubectl(["delete", "pod", "job"]);
  });

  const verbs: [words: string[], header: RegExp][] = [
    [["status"], /^Masquerading: +BPF \(ip-masq-agent\)/m],
    [["endpoint", "list"], /^ENDPOINT +STATE +POD .*\n1?\d+ +ready +default\/pod-1-1 +10\.244\.1\./],
    [["endpoint", "get", "default/pod-1-1"], /^ipv4: +10\.244\.1\./m],
    [["node", "list"], /^node1 \(local\) +172\.20\.0\.11,fd00:20::11/m],
    [["config", "view"], /^enable-ip-masq-agent +true +ConfigMap kube-system\/cilium-config/m],
    [["config", "get", "ipv4-native-routing-cidr"], /^10\.244\.0\.0\/16\n$/],
    [
      ["bpf", "nat", "list"],
      /^TCP OUT 10\.244\.1\.\d+:\d+ -> 198\.51\.100\.10:80 XLATE_SRC 172\.20\.0\.11:/m,
    ],
    [["bpf", "flow", "list"], /^TCP +.*198\.51\.100\.10:80 /m],
    [["bpf", "ct", "list"], /^TCP +.*198\.51\.100\.10:80 /m],
    [["bpf", "map", "list"], /^flows\[0\] +hash +\d+\/\d+ /m],
    [["bpf", "ipmasq", "list"], /^IP PREFIX\/ADDRESS.*\n(.*\n)*203\.0\.113\.0\/24/],
    [["bpf", "endpoint", "list"], /10\.244\.1\./],
    [["bpf", "metrics", "list"], /^Forwarded .*from_pod +[1-9]/m],
    [["lab", "status"], /^NODE +ADDRESSES/m],
    [["version"], /^hookline \d/],
  ];
  for (const [words, text] of verbs) {
    test(`hookline ${words.join(" ")}: table, JSON and YAML`, async () => {
      await curl("pod-1-1", "http://198.51.100.10/");
      assert.match(await output(...node1, ...words), text);
      const json = JSON.parse(await output(...node1, ...words, "-o", "json"));
      const yaml = parse(await output(...node1, ...words, "-o", "yaml"));
      assert.equal(Array.isArray(yaml), Array.isArray(json));
      const keys = (value: object): string[] => Object.keys(Array.isArray(value) ? (value[0] ?? {}) : value);
      assert.deepEqual(keys(yaml), keys(json));
      assert.notEqual(keys(json).length, 0, "JSON without a field");
    });
  }

  test("bpf verbs read the kernel: they work while the agent stands still", async () => {
    const pid = agentPid(lab, "node1");
    process.kill(pid, "SIGSTOP");
    try {
      const { peer } = await curl("pod-1-1", "http://198.51.100.10/");
      assert.equal(peer, "172.20.0.11");
      assert.match(await output(...node1, "bpf", "nat", "list"), /XLATE_SRC 172\.20\.0\.11:/);
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });

  test("monitor tells a new flow with its rule", async () => {
    const child = startHookline([...node1, "monitor", "-o", "json", "--from", "pod-1-1", "--port", "80"]);
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    try {
      const line = once(lines, "line", { signal: AbortSignal.timeout(60_000) });
      const request = setInterval(() => curl("pod-1-1", "http://198.51.100.10/").catch(() => undefined), 500);
      const [text] = await line.finally(() => clearInterval(request));
      const flow = JSON.parse(text);
      assert.deepEqual([flow.kind, flow.source.name, flow.rule], ["new-flow", "default/pod-1-1", 9]);
    } finally {
      child.kill("SIGINT");
      const [status] = await once(child, "exit");
      assert.equal(status, 0);
    }
  });

  test("up again: the same is no error, another shape is, and nothing is touched", async () => {
    const same = ["--name", lab, "--nodes", "2", "--pods-per-node", "1", "--mtu", "1400"];
    assert.match(await output("lab", "up", ...same), /up already/);
    const other = await hookline("lab", "up", "--name", lab, "--nodes", "1");
    assert.equal(other.status, 1);
    assert.match(other.stderr, /already up.*--replace/);
    assert.equal((await pods()).length, 2);
  });

  const mistakes: [words: string[], status: number, text: RegExp][] = [
    [["--lab", lab, "--node", "node9", "status"], 3, /node9.*does not exist/],
    [["--lab", lab, "status"], 2, /--node/],
    [["--run-dir", "/run/hookline-none", "bpf", "nat", "list"], 3, /does not exist.*--run-dir/],
    [["lab", "exec", "--name", lab, "nobody", "--", "true"], 2, /nobody.*node1.*outside/],
    [["lab", "status", "--name", "nolab"], 3, /hookline lab up/],
    [["lab", "up", "--name", "Not-A-Name"], 2, /letter/],
    [["bpf", "nat", "lst"], 2, /unknown command|help/],
    [["status", "-o", "xml"], 2, /table, json, yaml/],
    [[...node1, "endpoint", "get", "nobody"], 1, /endpoint list/],
    [[...node1, "config", "get", "no-such-key"], 1, /config view/],
  ];
  for (const [words, status, text] of mistakes) {
    test(`hookline ${words.map((w) => (w === lab ? "LAB" : w)).join(" ")}: status ${status}`, async () => {
      const outcome = await hookline(...words);
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(outcome.stderr, text);
    });
  }

  test("exec gives the program's own status and leaves it the real file systems", async () => {
    const exec = ["lab", "exec", "--name", lab];
    assert.equal((await hookline(...exec, "pod-1-1", "--", "sh", "-c", "exit 7")).status, 7);
    const pins = `/run/hookline/labs/${lab}/nodes/node1/bpf`;
    assert.match(await output(...exec, "node1", "--", "ls", "-R", pins), /nonmasq_cidrs/);
    assert.match(await output(...exec, "node1", "--", "hookline", "status"), /\[node1,/);
  });

  test("the MTU asked for is that of the nodes' cards and of the pods", async () => {
    for (const member of ["node1", "pod-1-1"]) {
      const link = await output("lab", "exec", "--name", lab, member, "--", "ip", "link", "show", "eth0");
      assert.match(link, / mtu 1400 /);
    }
  });

  test("down leaves nothing, and again is no error", async () => {
    assert.match(await output("lab", "down", "--name", lab), /is down: \d+ processes/);
    assert.deepEqual(remainsOf(lab), []);
    assert.ok(!existsSync(`/run/hookline/labs/${lab}`));
    assert.match(await output("lab", "down", "--name", lab), /There is no lab/);
  });
});
