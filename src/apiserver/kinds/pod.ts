// SPDX-License-Identifier: Apache-2.0
// Pod: the defaults that clients rely on, and the rules of its containers. Deletion is at once: there is no grace period
// unless a finalizer asks for one.
import { duplicateValue, type FieldError, forbiddenValue, invalidValue, requiredValue } from "../faults.ts";
import { at, isObject, type JsonObject, type KubeObject, listAt, own, textAt } from "../json.ts";
import { labelName } from "../names.ts";
import type { Kind } from "./kind.ts";
import { POD_COLUMNS } from "./pod-columns.ts";

function fill(target: JsonObject, defaults: JsonObject): void {
  for (const [key, value] of Object.entries(defaults)) if (!Object.hasOwn(target, key)) target[key] = value;
}

function containers(pod: KubeObject): [unknown, string][] {
  return ["initContainers", "containers"].flatMap((list) =>
    listAt(pod, "spec", list).map((c, i) => [c, `spec.${list}[${i}]`] as [unknown, string]),
  );
}

function defaults(pod: KubeObject): void {
  if (isObject(pod.spec)) {
    fill(pod.spec, {
      restartPolicy: "Always",
      dnsPolicy: "ClusterFirst",
      terminationGracePeriodSeconds: 30,
      schedulerName: "default-scheduler",
      securityContext: {},
      enableServiceLinks: true,
    });
  }
  for (const [container] of containers(pod)) {
    if (!isObject(container)) continue;
    const image = textAt(container, "image");
    const pull =
      !/[:@]/.test(image.split("/").at(-1) as string) || image.endsWith(":latest")
        ? "Always"
        : "IfNotPresent";
    fill(container, {
      imagePullPolicy: pull,
      resources: {},
      terminationMessagePath: "/dev/termination-log",
      terminationMessagePolicy: "File",
    });
    for (const port of listAt(container, "ports")) if (isObject(port)) fill(port, { protocol: "TCP" });
  }
}

function validate(pod: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  if (listAt(pod, "spec", "containers").length === 0) errors.push(requiredValue("spec.containers"));
  const names = new Set<string>();
  for (const [container, path] of containers(pod)) {
    const name = textAt(container, "name");
    const why = labelName(name);
    if (why) errors.push(invalidValue(`${path}.name`, name, why));
    if (names.has(name)) errors.push(duplicateValue(`${path}.name`, name));
    names.add(name);
    for (const [i, port] of listAt(container, "ports").entries()) {
      for (const field of ["containerPort", "hostPort"]) {
        const number = own(port, field);
        if (number === undefined || (field === "hostPort" && number === 0)) continue;
        if (Number(number) < 1 || Number(number) > 65535) {
          errors.push(invalidValue(`${path}.ports[${i}].${field}`, number, "must be between 1 and 65535"));
        }
      }
    }
  }
  const bound = textAt(old, "spec", "nodeName");
  if (bound && textAt(pod, "spec", "nodeName") !== bound) {
    errors.push(forbiddenValue("spec.nodeName", `the pod is bound to ${bound} already`));
  }
  return errors;
}

export const POD: Kind = {
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  singular: "pod",
  shortNames: ["po"],
  categories: ["all"],
  namespaced: true,
  model: "V1Pod",
  description: "Pod is one or more containers that share a network namespace and its addresses.",
  status: true,
  generation: true,
  fields: [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  columns: POD_COLUMNS,
  prepare(pod, old) {
    defaults(pod);
    // A new pod is Pending; a manifest that brings a status keeps it.
    if (!old && at(pod, "status", "phase") === undefined) {
      pod.status = { ...(isObject(pod.status) ? pod.status : {}), phase: "Pending", qosClass: "BestEffort" };
    }
    return undefined;
  },
  validate,
};
