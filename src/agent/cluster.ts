// SPDX-License-Identifier: Apache-2.0
// Everything that the agent follows in the Kubernetes API, as one picture. Until a kind has been read once, what the
// state folder says of it stands in, so that a start without the API server changes nothing.
import type { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { decodeNetworkConfig, type NetworkConfigObject } from "../source/cilium-network-config.ts";
import { decodeNodeConfig, type NodeConfigObject } from "../source/cilium-node-config.ts";
import type { KubeClient } from "../source/client.ts";
import { type ConfigMapObject, decodeConfigMap } from "../source/config-map.ts";
import { decodeNode, type NodeObject } from "../source/node.ts";
import { decodePod, type PodObject } from "../source/pod.ts";
import { Watcher, type WatchHealth, type WatchSpec } from "../source/watch.ts";

const NAMESPACE = "kube-system";
const CONFIG_MAP = "cilium-config";
const IP_MASQ_AGENT = "ip-masq-agent";

/** What is known of the cluster now. */
export interface ClusterView {
  readonly configMap: ConfigMapObject | undefined;
  readonly ipMasqAgent: ConfigMapObject | undefined;
  readonly nodeConfigs: readonly NodeConfigObject[];
  readonly networkConfigs: readonly NetworkConfigObject[];
  readonly nodes: readonly NodeObject[];
}

/** The watches of one agent. */
export class Cluster {
  readonly #configMap: Watcher<ConfigMapObject>;
  readonly #ipMasqAgent: Watcher<ConfigMapObject>;
  readonly #nodeConfigs: Watcher<NodeConfigObject>;
  readonly #networkConfigs: Watcher<NetworkConfigObject>;
  readonly #nodes: Watcher<NodeObject>;
  readonly #pods: Watcher<PodObject>;

  /** `onChange` is called after every change, also of a kind's first list. */
  constructor(options: { client: KubeClient; nodeName: string; log: Log; onChange: () => void }) {
    const { client, nodeName, log, onChange } = options;
    const watcher = <T>(spec: Omit<WatchSpec<T>, "onChange">): Watcher<T> =>
      new Watcher(client, { ...spec, onChange }, log);
    const maps = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
    const oneMap = (name: string): Watcher<ConfigMapObject> =>
      watcher({
        name,
        path: maps,
        query: { fieldSelector: `metadata.name=${name}` },
        decode: decodeConfigMap,
      });
    this.#configMap = oneMap(CONFIG_MAP);
    this.#ipMasqAgent = oneMap(IP_MASQ_AGENT);
    this.#nodeConfigs = watcher({
      name: "ciliumnodeconfigs",
      path: `/apis/cilium.io/v2/namespaces/${NAMESPACE}/ciliumnodeconfigs`,
      optional: true,
      decode: decodeNodeConfig,
    });
    this.#networkConfigs = watcher({
      name: "ciliumnetworkconfigs",
      path: "/apis/cilium.io/v2/ciliumnetworkconfigs",
      optional: true,
      decode: decodeNetworkConfig,
    });
    this.#nodes = watcher({ name: "nodes", path: "/api/v1/nodes", decode: decodeNode });
    this.#pods = watcher({
      name: "pods",
      path: "/api/v1/pods",
      query: { fieldSelector: `spec.nodeName=${nodeName}` },
      decode: decodePod,
    });
  }

  get #all(): readonly Watcher<unknown>[] {
    return [
      this.#configMap,
      this.#ipMasqAgent,
      this.#nodeConfigs,
      this.#networkConfigs,
      this.#nodes,
      this.#pods,
    ] as Watcher<unknown>[];
  }

  run(): void {
    for (const watcher of this.#all) watcher.run();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((watcher) => watcher.stop()));
  }

  /** All kinds that decide configuration and node facts have been read once. Pods do not count: they are only names. */
  get synced(): boolean {
    return this.#all.every((watcher) => watcher.synced || watcher === (this.#pods as unknown));
  }

  /** Grows when the server has been listed anew: it may be another one, or have lost its memory. */
  get listings(): number {
    return this.#nodes.health().relists;
  }

  get view(): ClusterView {
    const byName = <T extends { name: string }>(objects: Iterable<T>): T[] =>
      [...objects].sort((a, b) => (a.name < b.name ? -1 : 1));
    return {
      configMap: this.#configMap.objects.values().next().value,
      ipMasqAgent: this.#ipMasqAgent.objects.values().next().value,
      nodeConfigs: byName(this.#nodeConfigs.objects.values()),
      networkConfigs: byName(this.#networkConfigs.objects.values()),
      nodes: byName(this.#nodes.objects.values()),
    };
  }

  pod(namespace: string, name: string): PodObject | undefined {
    return this.#pods.objects.get(`${namespace}/${name}`);
  }

  /** Objects that cannot be used. */
  get faults(): readonly Fault[] {
    return this.#all.flatMap((watcher) => watcher.faults);
  }

  health(): WatchHealth[] {
    return this.#all.map((watcher) => watcher.health());
  }
}
