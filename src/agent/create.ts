// SPDX-License-Identifier: Apache-2.0
// The agent put together: plain calls from what is watched, through one plan, to the kernel. Whatever changes (an object,
// a file, a device) leads to the same `#update`, which computes everything anew and writes what differs; there is no
// second way for a fact to reach the kernel.
import { SerialQueue } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Endpoint } from "../engine/endpoint/spec.ts";
import { SourceTable } from "../engine/masquerade/plan.ts";
import type { NodeSpec } from "../engine/route/spec.ts";
import { hasRouteSource } from "../kernel/features.ts";
import type { FileLock } from "../kernel/file-lock.ts";
import { openRtNetlink, openSockDiag, type RtNetlink } from "../kernel/netlink/socket.ts";
import { FanOut } from "../observe/fan-out.ts";
import { openRing } from "../observe/ring.ts";
import { encodeCiliumEndpoint } from "../source/cilium-endpoint.ts";
import { encodeCiliumNode } from "../source/cilium-node.ts";
import { KubeClient } from "../source/client.ts";
import { encodeNode, type NodeObject } from "../source/node.ts";
import { prepareBpffs } from "./bpffs.ts";
import { Cluster } from "./cluster.ts";
import { ConfigSource, clusterLayers } from "./config-source.ts";
import { DataPlane } from "./data-plane.ts";
import { type EmbeddedApi, startEmbeddedApi } from "./embedded.ts";
import { EventReader } from "./event-reader.ts";
import { IpMasqSource } from "./ip-masq-source.ts";
import { type ListeningPorts, listeningPorts } from "./listening-ports.ts";
import { ModeSwitch } from "./masquerade-mode.ts";
import { namesOf } from "./names.ts";
import { NodeNetwork } from "./network.ts";
import { type MasqueradeMode, nodeConfig, tableSizes } from "./node-config.ts";
import { type AgentPlan, planAgent } from "./plan.ts";
import { Pods } from "./pods.ts";
import { Publisher } from "./publish.ts";
import type { StartOptions } from "./start-options.ts";
import { type LastGood, StateFiles } from "./state-files.ts";
import { applySysctls } from "./sysctls.ts";
import { VERSION } from "./version.ts";

/** How long a start waits for the API server before it goes on with what the state folder holds. */
const API_PATIENCE_MS = 1_000;
/** Sockets, detached links and missing folders have no event to wait for. */
const REVIEW_MS = 5_000;

/** One running agent. Made by `start`, ended by `stop`; a process holds one. */
export class Agent {
  readonly options: StartOptions;
  readonly startedAt = performance.now();
  readonly log: Log;
  readonly flows = new FanOut();
  readonly sources = new SourceTable();
  readonly config: ConfigSource;
  readonly ipMasq: IpMasqSource;
  readonly files: StateFiles;
  readonly cluster: Cluster;
  readonly publisher: Publisher;
  readonly network: NodeNetwork;
  readonly pods: Pods;
  readonly masquerade: ModeSwitch;
  readonly client: KubeClient;
  readonly #lock: FileLock;
  readonly #embedded: EmbeddedApi | undefined;
  readonly #netlink: RtNetlink;
  readonly #queue = new SerialQueue();
  readonly #ready = Promise.withResolvers<void>();
  readonly #saved: LastGood | undefined;
  #patienceOver = false;
  #dirty = false;
  #listings = 0;
  #stopped = false;
  #timers: NodeJS.Timeout[] = [];
  #events: EventReader | undefined;
  readonly #sockDiag = openSockDiag();
  #listening: ListeningPorts = listeningPorts(this.#sockDiag);
  dataPlane: DataPlane | undefined;
  plan: AgentPlan | undefined;
  /** ms from start to the first moment at which a pod could be added; undefined until then. */
  readyMs: number | undefined;
  /** Why the last update did not come through. */
  updateFault: Fault | undefined;
  sysctlProblems: readonly string[] = [];
  /** Called after every update, for those who follow the configuration and stand above the agent. */
  onUpdate: (() => void) | undefined;
  /** What those who follow could not do. */
  serviceFault: Fault | undefined;
  /** Why the CNI plugin could not be installed. */
  cniProblem: string | undefined;

  private constructor(
    options: StartOptions,
    parts: {
      log: Log;
      files: StateFiles;
      lock: FileLock;
      client: KubeClient;
      embedded: EmbeddedApi | undefined;
    },
  ) {
    this.options = options;
    this.log = parts.log;
    this.files = parts.files;
    this.client = parts.client;
    this.#lock = parts.lock;
    this.#embedded = parts.embedded;
    const onChange = (): void => this.#changed();
    this.config = new ConfigSource(options.layers, this.log);
    this.ipMasq = new IpMasqSource(this.log, onChange);
    this.#saved = this.#loadSaved();
    this.#netlink = openRtNetlink();
    this.network = new NodeNetwork(this.#netlink, {
      changed: onChange,
      stripped: (ifindexes) => void this.#queue.run(() => this.dataPlane?.putBack(ifindexes)),
    });
    this.publisher = new Publisher(this.client, this.log);
    this.masquerade = new ModeSwitch({
      files: this.files,
      adopt: async (flows) => (await this.dataPlane?.adopt(flows)) ?? 0,
      complete: () => (this.#stopped ? undefined : this.dataPlane?.permitResets()),
      log: this.log,
      onChange,
    });
    this.pods = new Pods({
      netlink: this.#netlink,
      openNetlink: openRtNetlink,
      bpfRoot: options.bpfRoot,
      files: this.files,
      log: this.log,
      onChange: (endpoint, gone) => {
        if (gone) this.masquerade.podGone(endpoint);
        this.#publishEndpoint(endpoint, gone);
      },
    });
    this.cluster = new Cluster({ client: this.client, nodeName: options.nodeName, log: this.log, onChange });
  }

  /**
   * Starts an agent; it works when `ready` resolves, and answers questions before that.
   * @throws Fault AGENT_RUNNING, API_ADDRESS, those of the embedded API server
   */
  static async start(options: StartOptions, log: Log): Promise<Agent> {
    const files = new StateFiles(options.runDir, options.stateDir);
    // The lock comes first: a second agent must not touch socket, pins or state of the first.
    const lock = files.lock();
    prepareBpffs(options.bpfRoot);
    const embed = options.manifests !== "" && options.api === "" && options.kubeconfig === "";
    const embedded = embed
      ? await startEmbeddedApi({ runDir: options.runDir, manifests: options.manifests, log })
      : undefined;
    const client = new KubeClient({ api: embedded?.address ?? options.api, kubeconfig: options.kubeconfig });
    const agent = new Agent(options, { log, files, lock, client, embedded });
    files.writeAgentFile({
      nodeName: options.nodeName,
      pid: process.pid,
      bpfRoot: options.bpfRoot,
      runDir: options.runDir,
      stateDir: options.stateDir,
      cgroupRoot: options.cgroupRoot,
      apiServer: client.server,
      version: VERSION,
    });
    agent.#run();
    return agent;
  }

  /** Resolves when pods can be added for the first time. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get manifestFaults(): readonly string[] {
    return this.#embedded?.faults() ?? [];
  }

  #loadSaved(): LastGood | undefined {
    try {
      return this.files.loadLastGood();
    } catch (thrown) {
      this.log.error({ err: thrown }, "last good configuration cannot be read; waiting for the API server");
      return undefined;
    }
  }

  #run(): void {
    this.cluster.run();
    for (const endpoint of this.pods.goneAtStart) this.#publishEndpoint(endpoint, true);
    this.publisher.run();
    const patience = setTimeout(() => {
      this.#patienceOver = true;
      this.#changed();
    }, API_PATIENCE_MS);
    const review = setInterval(() => this.#review(), REVIEW_MS);
    review.unref();
    this.#timers = [patience, review];
    this.#changed();
  }

  #review(): void {
    this.#listening = listeningPorts(this.#sockDiag);
    // A detached TCX link has no event.
    this.dataPlane?.putBack(new Set(this.plan?.devices.map((device) => device.ifindex)));
    this.#changed();
  }

  /** Asks for an update; many requests at once make one. */
  #changed(): void {
    if (this.#dirty || this.#stopped) return;
    this.#dirty = true;
    void this.#queue.run(async () => {
      this.#dirty = false;
      if (this.#stopped) return;
      try {
        await this.#update();
        this.updateFault = undefined;
      } catch (thrown) {
        const fault = Fault.from(thrown);
        if (fault.detail !== this.updateFault?.detail) {
          this.log.error({ err: thrown }, "update failed; what was in force stays");
        }
        this.updateFault = fault;
        // Nothing may come to try again for: kernel refusals pass, so the review timer does.
      }
      this.pods.setNotReady(this.#obstacle());
      this.onUpdate?.();
    });
  }

  /** Nodes of the cluster, or until they have been read those of the state folder. Undefined: nothing to go by yet. */
  #facts(): { nodes: readonly NodeObject[]; fromState: boolean } | undefined {
    if (this.cluster.synced) return { nodes: this.cluster.view.nodes, fromState: false };
    if (!this.#patienceOver || this.#saved === undefined) return undefined;
    return { nodes: this.#saved.nodes, fromState: true };
  }

  async #update(): Promise<void> {
    const known = this.#facts();
    if (known === undefined) return;
    const view = this.cluster.view;
    if (known.fromState && this.#saved) this.config.restore(this.#saved);
    else {
      const own = known.nodes.find((node) => node.name === this.options.nodeName);
      this.config.update(clusterLayers(view, own?.labels ?? {}));
    }
    const config = this.config.config;
    if (config === undefined) return;
    this.log.level = config["log-level"];
    const families = { ipv4: config["enable-ipv4"], ipv6: config["enable-ipv6"] };
    const ipMasqAgent = this.ipMasq.update(config["ip-masq-agent-config-path"], {
      configMap: view.ipMasqAgent,
      families,
      saved: this.#saved?.ipMasqAgent,
      fromState: known.fromState,
    });
    const facts = this.network.read();
    const plan = planAgent(
      {
        nodeName: this.options.nodeName,
        config,
        originOf: (name) => this.config.originOf(name),
        nodes: known.nodes,
        facts,
        ipMasqAgent,
        listening: this.#listening,
        routeSource: hasRouteSource(),
      },
      this.sources,
    );
    this.plan = plan;
    this.sysctlProblems = applySysctls(
      families,
      plan.devices.map((device) => device.name),
    );
    const mode = await this.masquerade.prepare({ config, plan, facts, pods: this.pods.engine.list() });
    this.#keepLoaded(mode);
    // Routes after maps: a packet that takes a new route must find the map entries that judge it.
    this.dataPlane?.apply(plan, config);
    this.network.applyRoutes(plan.routes);
    this.pods.setMtu(plan.mtu);
    this.pods.setRanges(plan.podRanges);
    if (this.#listings !== this.cluster.listings) this.publisher.refresh();
    this.#listings = this.cluster.listings;
    this.#publishNode(plan.self);
    for (const endpoint of this.pods.engine.list()) this.#publishEndpoint(endpoint, false);
    if (!known.fromState) this.#save(known.nodes);
    this.#announceReady();
    void this.masquerade.settle(mode);
  }

  /** Loads the data plane at first, and again when an option of it has changed. */
  #keepLoaded(mode: MasqueradeMode): void {
    const config = this.config.config;
    if (config === undefined) return;
    if (this.dataPlane !== undefined) {
      this.dataPlane.flowTable.max = tableSizes(config);
      this.dataPlane.reload(nodeConfig(config, mode));
      return;
    }
    const dataPlane = new DataPlane({
      objectPath: this.options.objectPath,
      bpfRoot: this.options.bpfRoot,
      config: nodeConfig(config, mode),
      sizes: tableSizes(config),
      log: this.log,
    });
    this.dataPlane = dataPlane;
    // Pods before native devices: replies that come in must find their pod.
    for (const fault of this.pods.connect(dataPlane.endpointPorts)) {
      this.log.error({ error: fault.detail }, "pod keeps its old programs");
    }
    dataPlane.flowTable.start();
    this.#events = new EventReader({
      ring: openRing(dataPlane.mapFd("events")),
      lost: dataPlane.table("events_lost"),
      flows: this.flows,
      log: this.log,
      names: namesOf(this),
    });
  }

  #save(nodes: readonly NodeObject[]): void {
    if (this.config.faults.length > 0) return;
    const config = this.config.snapshot();
    this.files.saveLastGood({ version: 1, config, nodes: [...nodes], ipMasqAgent: this.ipMasq.document });
  }

  /** Why pods cannot be added now. */
  #obstacle(): string | undefined {
    if (this.#stopped) return "the agent is stopping";
    const refused = this.config.faults[0] ?? this.updateFault;
    if (this.config.config === undefined) {
      if (refused !== undefined) return `the configuration is refused: ${refused.detail}`;
      return `waiting for the API server ${this.client.server}`;
    }
    if (this.dataPlane === undefined) return this.updateFault?.detail ?? "the data plane is not loaded";
    const cidrs = this.plan?.podRanges.cidrs;
    if (cidrs !== undefined && cidrs[4].length + cidrs[6].length === 0) {
      return `Node ${this.options.nodeName} has no pod range: set spec.podCIDRs of its Node object, or ipv4-range`;
    }
    return undefined;
  }

  #announceReady(): void {
    if (this.readyMs !== undefined || this.#obstacle() !== undefined) return;
    this.readyMs = Math.round(performance.now() - this.startedAt);
    const loadMs = Math.round(this.dataPlane?.loadMs ?? 0);
    this.log.info({ readyMs: this.readyMs, loadMs, endpoints: this.pods.engine.size }, "ready");
    this.pods.setNotReady(undefined);
    this.#ready.resolve();
  }

  #publishNode(self: NodeSpec | undefined): void {
    if (self === undefined) return;
    this.publisher.put(encodeCiliumNode(self));
    const exists = this.cluster.view.nodes.some((node) => node.name === self.name);
    // Where there is a kubelet the Node object is its own; with the embedded server nobody else makes one.
    if (this.#embedded !== undefined && !exists && this.cluster.synced) {
      this.publisher.put(encodeNode(self, VERSION));
    }
  }

  #publishEndpoint(endpoint: Endpoint, gone: boolean): void {
    const pod = this.cluster.pod(endpoint.podNamespace, endpoint.podName);
    const publication = encodeCiliumEndpoint(endpoint, {
      nodeAddress: this.plan?.self?.internalAddresses[0] ?? "",
      labels: pod?.labels ?? {},
      podUid: endpoint.podUid || (pod?.uid ?? ""),
    });
    if (publication === undefined) return;
    if (gone) this.publisher.remove(publication.path);
    else this.publisher.put(publication);
  }

  /** The nodes of the cluster as they are taken now, this one included. */
  nodes(): readonly NodeSpec[] {
    const nodes = this.#facts()?.nodes ?? [];
    const self = this.plan?.self;
    const others = nodes.filter((node) => node.name !== this.options.nodeName);
    return self === undefined ? nodes : [...others, self];
  }

  /** Ends the process's part; the data plane stays attached and goes on. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.pods.setNotReady("the agent is stopping");
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all([this.#queue.idle(), this.pods.idle()]);
    this.ipMasq.close();
    this.masquerade.close();
    this.network.close();
    this.#events?.close();
    this.dataPlane?.close();
    await Promise.all([this.cluster.stop(), this.publisher.stop()]);
    await this.client.close();
    await this.#embedded?.close();
    this.#netlink.close();
    this.#sockDiag.close();
    this.#lock[Symbol.dispose]();
  }
}
