// SPDX-License-Identifier: Apache-2.0
// Discovery: which groups, versions and resources there are, in the plain form (/api, /apis, /apis/GROUP/VERSION) and in
// the aggregated one that newer clients prefer.
import type { Registry, Resource } from "./registry.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/** What the server calls itself; clients compare only major and minor. */
export const VERSION = {
  major: "1",
  minor: "32",
  gitVersion: "v1.32.0+hookline",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "none",
  compiler: "none",
  platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
};

interface Subresource {
  name: string;
  kind: string;
  verbs: string[];
}

function subresources(resource: Resource): Subresource[] {
  const list: Subresource[] = [];
  if (resource.builtin?.plural === "pods") list.push({ name: "binding", kind: "Binding", verbs: ["create"] });
  if (resource.status) list.push({ name: "status", kind: resource.kind, verbs: ["get", "patch", "update"] });
  return list;
}

/** v2 before v1 before v1beta1 before v1alpha1, as clients expect the preferred version first. */
function byPreference(a: string, b: string): number {
  const rank = (version: string) => {
    const [, major = "0", stage, minor = "0"] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version) ?? [];
    return [stage === undefined ? 2 : stage === "beta" ? 1 : 0, Number(major), Number(minor)] as const;
  };
  const [x, y] = [rank(a), rank(b)];
  return y[0] - x[0] || y[1] - x[1] || y[2] - x[2];
}

/** Groups with their versions, the core group left out. */
function groups(registry: Registry): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { group, version } of registry.all()) {
    if (group === "") continue;
    const versions = found.get(group) ?? [];
    if (!versions.includes(version)) versions.push(version);
    found.set(group, versions.sort(byPreference));
  }
  return found;
}

function apiGroup(group: string, versions: string[]): Record<string, unknown> {
  const list = versions.map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: list, preferredVersion: list[0] };
}

/** The document of /api. */
export function apiVersions(): unknown {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

/** The document of /apis. */
export function apiGroupList(registry: Registry): unknown {
  const list = [...groups(registry)].map(([group, versions]) => apiGroup(group, versions));
  return { kind: "APIGroupList", apiVersion: "v1", groups: list };
}

/** The document of /apis/GROUP, or undefined. */
export function apiGroupOf(registry: Registry, group: string): unknown {
  const versions = groups(registry).get(group);
  return versions ? { kind: "APIGroup", apiVersion: "v1", ...apiGroup(group, versions) } : undefined;
}

/** The document of /api/v1 and /apis/GROUP/VERSION, or undefined. */
export function apiResourceList(registry: Registry, group: string, version: string): unknown {
  const found = registry.all().filter((r) => r.group === group && r.version === version);
  if (found.length === 0) return undefined;
  const resources = found.flatMap((r) => [
    {
      name: r.plural,
      singularName: r.singular,
      namespaced: r.namespaced,
      kind: r.kind,
      verbs: VERBS,
      ...(r.shortNames.length > 0 ? { shortNames: r.shortNames } : {}),
      ...(r.categories.length > 0 ? { categories: r.categories } : {}),
    },
    ...subresources(r).map((s) => ({
      name: `${r.plural}/${s.name}`,
      singularName: "",
      namespaced: r.namespaced,
      kind: s.kind,
      verbs: s.verbs,
    })),
  ]);
  const groupVersion = group ? `${group}/${version}` : version;
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources };
}

/** The aggregated document of /api (`core`) or /apis. */
export function aggregated(registry: Registry, version: string, core: boolean): unknown {
  const wanted = core ? new Map([["", ["v1"]]]) : groups(registry);
  const items = [...wanted].map(([group, versions]) => ({
    metadata: { ...(group ? { name: group } : {}), creationTimestamp: null },
    versions: versions.map((v) => ({
      version: v,
      resources: registry
        .all()
        .filter((r) => r.group === group && r.version === v)
        .map(aggregatedResource),
      freshness: "Current",
    })),
  }));
  return { kind: "APIGroupDiscoveryList", apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
}

function aggregatedResource(r: Resource): Record<string, unknown> {
  const { group, version } = r;
  const subs = subresources(r).map((s) => ({
    subresource: s.name,
    responseKind: { group, version, kind: s.kind },
    verbs: s.verbs,
  }));
  return {
    resource: r.plural,
    responseKind: { group, version, kind: r.kind },
    scope: r.namespaced ? "Namespaced" : "Cluster",
    singularResource: r.singular,
    verbs: VERBS,
    ...(r.shortNames.length > 0 ? { shortNames: r.shortNames } : {}),
    ...(r.categories.length > 0 ? { categories: r.categories } : {}),
    ...(subs.length > 0 ? { subresources: subs } : {}),
  };
}
