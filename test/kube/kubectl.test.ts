// SPDX-License-Identifier: Apache-2.0
// Real kubectl, new and old, against the embedded API server: what its users do every day, and what they read when they
// do it wrong.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ApiServer, startApiServer } from "../../src/apiserver/server.ts";
import { waitFor } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { kubectl, kubectlBinaries } from "./kubectl-binaries.ts";
import { rawRequest } from "./raw-request.ts";

const NODE = `
apiVersion: v1
kind: Node
metadata: {name: node1, labels: {node-role.kubernetes.io/worker: ""}}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status:
  addresses: [{type: InternalIP, address: 172.20.0.11}, {type: Hostname, address: node1}]
  conditions: [{type: Ready, status: "True"}]
  nodeInfo: {kubeletVersion: v9.9.9, osImage: Lab, kernelVersion: 6.1.0, containerRuntimeVersion: lab://1, architecture: "",
    bootID: "", kubeProxyVersion: "", machineID: "", operatingSystem: linux, systemUUID: ""}
`;
const POD = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  nodeName: node1
  containers: [{name: web, image: lab/web, ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}]
`;
const SERVICE = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80}]}
`;
const CONFIG = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
data: {a: "1"}
`;
const CRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, shortNames: [lp]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      additionalPrinterColumns:
        - {name: Colour, type: string, jsonPath: .spec.colour}
        - {name: Lit, type: string, jsonPath: '.status.conditions[?(@.type=="Lit")].status'}
        - {name: Watts, type: integer, jsonPath: .spec.watts, priority: 1}
        - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              required: [colour]
              properties:
                colour: {type: string, enum: [red, green]}
                watts: {type: integer, minimum: 1, default: 5, description: "Power of the lamp."}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`;
const lamp = (spec: string) => `
apiVersion: example.org/v1
kind: Lamp
metadata: {name: one}
spec: ${spec}
`;

const { binaries, remove } = await kubectlBinaries();
after(remove);

for (const { name, path, why } of binaries) {
  if (path === undefined) {
    test(name, { skip: why }, () => {});
    continue;
  }
  describe(name, () => {
    let server: ApiServer;
    let folder: string;
    const call = (args: string, input?: string) =>
      kubectl(path, join(folder, "kubeconfig"), args.split(" "), input === undefined ? {} : { input });
    /** Runs kubectl, which must succeed, and returns what it printed. */
    const ok = async (args: string, input?: string) => {
      const outcome = await call(args, input);
      assert.equal(outcome.code, 0, `kubectl ${args}\n${outcome.stdout}${outcome.stderr}`);
      return outcome.stdout;
    };
    /** Runs kubectl, which must fail, and returns its complaint. */
    const fails = async (args: string, input?: string) => {
      const outcome = await call(args, input);
      assert.notEqual(outcome.code, 0, `kubectl ${args} succeeded: ${outcome.stdout}`);
      return outcome.stderr;
    };

    /** What a pod runner or an operator does; old kubectl has no --subresource. */
    const patchStatus = async (object: string, status: object) => {
      const options = { body: { status }, type: "application/merge-patch+json" };
      const answer = await rawRequest(join(folder, "api.sock"), "PATCH", `${object}/status`, options);
      assert.equal(answer.code, 200, answer.text);
    };

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "hlt-kube-"));
      const tcp = { host: "127.0.0.1", port: 0, kubeconfig: join(folder, "kubeconfig") };
      server = await startApiServer({ unixSocket: join(folder, "api.sock"), tcp, log: silentLog() });
    });
    after(async () => {
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    });

    test("apply creates, leaves alone and changes", async () => {
      const all = [NODE, POD, SERVICE, CONFIG].join("---");
      assert.match(
        await ok("apply -f -", all),
        /node\/node1 created\npod\/web created\nservice\/web created\nconfigmap\/settings created/,
      );
      assert.match(await ok("apply -f -", all), /(\S+ unchanged\s*){4}/);
      assert.match(await ok("apply -f -", CONFIG.replace('"1"', '"2"')), /configmap\/settings configured/);
      assert.equal(await ok("get cm settings -o jsonpath={.data.a}"), "2");
      assert.match(
        await ok("apply -f -", SERVICE.replace("port: 80", "port: 81")),
        /service\/web configured/,
      );
      assert.equal(await ok("get svc web -o jsonpath={.spec.ports[*].port}"), "81");
    });

    test("get nodes,pods -A -o wide shows what users look for", async () => {
      const text = await ok("get nodes,pods -A -o wide");
      assert.match(
        text,
        /NAME\s+STATUS\s+ROLES\s+AGE\s+VERSION\s+INTERNAL-IP\s+EXTERNAL-IP\s+OS-IMAGE\s+KERNEL-VERSION\s+CONTAINER-RUNTIME/,
      );
      assert.match(
        text,
        /node\/node1\s+Ready\s+worker\s+\d+s\s+v9.9.9\s+172.20.0.11\s+<none>\s+Lab\s+6.1.0\s+lab:\/\/1/,
      );
      assert.match(
        text,
        /NAMESPACE\s+NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\s+IP\s+NODE\s+NOMINATED NODE\s+READINESS GATES/,
      );
      assert.match(text, /default\s+pod\/web\s+0\/1\s+Pending\s+0\s+\d+s\s+<none>\s+node1\s+<none>\s+<none>/);
    });

    test("selectors choose on the server", async () => {
      assert.equal(await ok("get pods -l app=web,app!=db -o name"), "pod/web\n");
      assert.equal(await ok("get pods -A --field-selector spec.nodeName=node1 -o name"), "pod/web\n");
      assert.equal(await ok("get pods -A --field-selector spec.nodeName!=node1 -o name"), "");
      assert.match(
        await fails("get pods --field-selector spec.colour=red"),
        /field label not supported: spec\.colour/,
      );
    });

    test("patches of all three kinds", async () => {
      await ok('patch pod web -p {"spec":{"containers":[{"name":"web","env":[{"name":"B","value":"2"}]}]}}');
      assert.equal(await ok("get pod web -o jsonpath={.spec.containers[0].env[*].name}"), "A B");
      assert.equal(await ok("get pod web -o jsonpath={.spec.containers[0].image}"), "lab/web");
      await ok('patch cm settings --type merge -p {"data":{"a":null,"b":"3"}}');
      assert.equal(await ok("get cm settings -o jsonpath={.data}"), '{"b":"3"}');
      await ok(
        'patch cm settings --type json -p [{"op":"test","path":"/data/b","value":"3"},{"op":"replace","path":"/data/b","value":"4"}]',
      );
      assert.equal(await ok("get cm settings -o jsonpath={.data.b}"), "4");
      assert.match(
        await fails('patch cm settings --type json -p [{"op":"test","path":"/data/b","value":"9"}]'),
        /operation 0: test \/data\/b: test failed/,
      );
    });

    test("label and annotate", async () => {
      assert.match(await ok("label pod web tier=front"), /pod\/web labeled/);
      assert.match(await fails("label pod web tier=back"), /overwrite is false/);
      await ok("label pod web tier=back --overwrite");
      assert.equal(await ok("get pods -l tier=back -o name"), "pod/web\n");
      await ok("label pod web tier-");
      await ok("annotate pod web example.org/note=hello");
      assert.match(await ok("get pod web -o yaml"), /example.org\/note: hello/);
      assert.match(await fails("label pod web bad=-x-"), /valid label/);
    });

    test("get -w sees added, modified and deleted", async () => {
      const env = { PATH: process.env.PATH ?? "", HOME: folder, KUBECONFIG: join(folder, "kubeconfig") };
      const watch = spawn(path, ["get", "cm", "-w", "--output-watch-events", "-l", "watched=yes"], { env });
      let seen = "";
      watch.stdout.on("data", (chunk) => {
        seen += chunk;
      });
      const told = (event: RegExp) => waitFor(`${event} in: ${seen}`, () => event.test(seen));
      try {
        await ok("create cm first");
        await ok("label cm first watched=yes");
        await told(/ADDED\s+first\s+0/);
        await ok('patch cm first -p {"data":{"k":"v"}}');
        await told(/MODIFIED\s+first\s+1/);
        await ok("label cm first watched-");
        await told(/DELETED\s+first\s+1/);
      } finally {
        watch.kill();
      }
    });

    test("wait returns when the condition holds", async () => {
      const waiting = ok("wait --for=condition=Ready pod/web --timeout=60s");
      await patchStatus("/api/v1/namespaces/default/pods/web", {
        phase: "Running",
        podIP: "10.244.1.5",
        podIPs: [{ ip: "10.244.1.5" }],
        conditions: [{ type: "Ready", status: "True" }],
      });
      assert.match(await waiting, /pod\/web condition met/);
      assert.match(await ok("get pods -o wide"), /web\s+0\/1\s+Running\s+0\s+\S+\s+10\.244\.1\.5\s+node1/);
    });

    test("describe succeeds for every kind", async () => {
      assert.match(await ok("describe node node1"), /Non-terminated Pods:\s+\(1 in total\)/);
      assert.match(await ok("describe pod web"), /Node:\s+node1/);
      for (const target of ["svc web", "cm settings", "ns default", "crd ciliumendpoints.cilium.io"]) {
        await ok(`describe ${target}`);
      }
    });

    test("explain and api-resources know the kinds", async () => {
      assert.match(await ok("explain pod.spec.containers.ports"), /containerPort/);
      const list = await ok("api-resources");
      for (const kind of [
        "Node",
        "Pod",
        "EndpointSlice",
        "Lease",
        "CustomResourceDefinition",
        "CiliumEndpoint",
        "CiliumNode",
      ]) {
        assert.match(list, new RegExp(`\\s${kind}\\s`));
      }
    });

    test("a CRD brings its kind, with columns, defaults, validation and status", async () => {
      assert.match(await ok("apply -f -", CRD), /lamps.example.org created/);
      await ok("wait --for=condition=established crd/lamps.example.org --timeout=10s");
      assert.match(await ok("apply -f -", lamp("{colour: red}")), /lamp.example.org\/one created/);
      assert.match(await ok("apply -f -", lamp("{colour: red}")), /unchanged/);
      assert.match(await ok("get lp -o wide"), /NAME\s+COLOUR\s+LIT\s+WATTS\s+AGE\none\s+red\s+5\s+\d+s/);
      await patchStatus("/apis/example.org/v1/namespaces/default/lamps/one", {
        conditions: [
          { type: "Dim", status: "False" },
          { type: "Lit", status: "True" },
        ],
      });
      assert.match(await ok("get lp"), /one\s+red\s+True\s+\d+s/);
      assert.match(await ok("explain lamp.spec"), /Power of the lamp/);
      const complaint = await fails("apply -f -", lamp("{colour: blue, watts: 0}"));
      assert.match(complaint, /spec\.colour/);
      assert.match(complaint, /supported values/);
      await ok("delete lamp one");
      await ok("delete crd lamps.example.org");
      assert.match(
        await fails("get lamps"),
        /doesn't have a resource type|could not find the requested resource/,
      );
    });

    test("what is wrong is told with its path", async () => {
      const bad = POD.replace("containerPort: 80", "containerPort: eighty").replace(
        "name: web,",
        "name: bad,",
      );
      assert.match(await fails("apply -f -", bad), /containers\[0\]\.ports\[0\]\.containerPort/);
      assert.match(
        await fails("apply -f - --validate=false", bad),
        /containers\[0\]\.ports\[0\]\.containerPort: Invalid value/,
      );
      assert.match(await fails("apply -f -", CONFIG.replace("\ndata:", "\ndota:")), /unknown field "dota"/);
      assert.match(await fails("create ns Upper"), /metadata\.name: Invalid value: "Upper"/);
      assert.match(await fails("get pod missing"), /pods "missing" not found/);
      assert.match(await fails("create cm settings"), /configmaps "settings" already exists/);
      assert.match(
        await fails("apply -f - -n nowhere", CONFIG.replace(", namespace: default", "")),
        /namespaces "nowhere" not found/,
      );
      assert.match(
        await fails("apply --server-side -f -", CONFIG),
        /accepted: application\/json-patch\+json/,
      );
    });

    test("create makes the simple kinds", async () => {
      await ok("create secret generic key --from-literal=password=s3cret");
      assert.equal(await ok("get secret key -o jsonpath={.data.password}"), "czNjcmV0");
      await ok("create cm texts --from-literal=a=1 --from-literal=b=two");
      assert.equal(await ok("get cm texts -o jsonpath={.data}"), '{"a":"1","b":"two"}');
      await ok("create sa robot");
      await ok("create svc nodeport door --tcp=80:8080");
      assert.match(await ok("get svc door"), /door\s+NodePort\s+10\.96\.\S+\s+<none>\s+80:3\d{4}\/TCP/);
      assert.equal(await ok("get svc door -o jsonpath={.spec.ports[0].targetPort}"), "8080");
      await ok("create svc clusterip headless --clusterip=None");
      await ok("run once --image=lab/web --restart=Never");
      await ok("delete secret/key sa/robot pod/once");
    });

    test("create, replace and edit conflicts", async () => {
      const old = await ok("get cm settings -o json");
      await ok("annotate cm settings touched=yes");
      assert.match(await fails("replace -f -", old), /the object has been modified/);
      assert.match(await ok("replace --force -f -", old), /replaced/);
    });

    test("delete removes objects and namespaces with what is in them", async () => {
      await ok("create ns team");
      await ok("create cm inside -n team");
      await ok("delete ns team");
      assert.match(await fails("get cm inside -n team"), /not found/);
      assert.match(await fails("delete ns kube-system"), /may not be deleted/);
      assert.match(await ok("delete pod web --wait=true"), /pod "web" deleted/);
      await ok("delete svc,cm --all");
      assert.equal(await ok("get pods,svc,cm -o name"), "");
    });
  });
}
