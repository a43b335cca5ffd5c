// SPDX-License-Identifier: Apache-2.0
// Adds, removes and checks pods for the CNI handler: addresses from the node's ranges, the endpoint, and what has been
// given out kept on disk. The two kinds of state, leases and endpoints, are brought together at start.
import type { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { EndpointEngine, type EndpointPorts } from "../engine/endpoint/engine.ts";
import type { EndpointEntry } from "../engine/endpoint/plan.ts";
import { type Endpoint, endpointAddresses } from "../engine/endpoint/spec.ts";
import { Ipam, type IpamStatus } from "../engine/ipam/engine.ts";
import type { CidrCounts } from "../engine/ipam/plan.ts";
import type { IpamSpec } from "../engine/ipam/spec.ts";
import type { RtNetlink } from "../kernel/netlink/socket.ts";
import { openPinned } from "../maps/table.ts";
import type { Allocations, StateFiles } from "./state-files.ts";

/** One interface of one container. */
export interface Attachment {
  readonly containerId: string;
  readonly ifName: string;
}

/** What the CNI plugin asks for. */
export interface PodRequest extends Attachment {
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly args: Readonly<Record<string, string>>;
  readonly config: { readonly name: string };
}

/** A pod's interface as the endpoint engine made it, in the words of the CNI result. */
export interface PodInterface {
  /** Device on the node. */
  readonly hostIfName: string;
  readonly hostMac: string;
  /** Device in the pod (CNI_IFNAME). */
  readonly ifName: string;
  readonly mac: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  /** Bytes. */
  readonly mtu: number;
  readonly ipv4?: string;
  readonly ipv6?: string;
}

function podInterface(endpoint: Endpoint): PodInterface {
  return {
    hostIfName: endpoint.device,
    hostMac: endpoint.hostMac,
    ifName: endpoint.ifName,
    mac: endpoint.mac,
    netns: endpoint.netns,
    mtu: endpoint.mtu,
    ...(endpoint.ipv4 === undefined ? {} : { ipv4: endpoint.ipv4 }),
    ...(endpoint.ipv6 === undefined ? {} : { ipv6: endpoint.ipv6 }),
  };
}

const NO_RANGES: IpamSpec = { cidrs: { 4: [], 6: [] } };

/** What the kernel holds of pods, by device index; nothing if it cannot be read. */
function pinnedEndpoints(bpfRoot: string): ReadonlyMap<number, EndpointEntry> {
  try {
    using table = openPinned(bpfRoot, "endpoints");
    return new Map(table.entries());
  } catch {
    // None is pinned yet, or it is of another layout, which the loader tells.
    return new Map();
  }
}

/** The pods of this node. */
export class Pods {
  readonly #files: StateFiles;
  readonly #log: Log;
  readonly engine: EndpointEngine;
  readonly #ipam: Ipam;
  /** Endpoints of the state folder that had lost their device when the agent started. */
  goneAtStart: readonly Endpoint[] = [];
  readonly #onChange: (endpoint: Endpoint, gone: boolean) => void;
  readonly #removals = new Set<Promise<boolean>>();
  /** Why pods cannot be added; set by the composition. */
  #notReady: string | undefined = "starting";
  #mtu = 1500;

  /** Restores what the state folder holds. `onChange` is told of every endpoint that comes or goes afterwards. */
  constructor(options: {
    netlink: RtNetlink;
    openNetlink: () => RtNetlink;
    bpfRoot: string;
    files: StateFiles;
    log: Log;
    onChange: (endpoint: Endpoint, gone: boolean) => void;
  }) {
    this.#files = options.files;
    this.#log = options.log;
    this.#onChange = options.onChange;
    const saved = this.#loadAllocations();
    this.engine = new EndpointEngine({
      netlink: options.netlink,
      openNetlink: options.openNetlink,
      stateDir: options.files.stateDir,
      ...(saved === undefined ? {} : { nextId: saved.nextEndpointId }),
    });
    // The ranges come later, from the Node object; leases do not wait for them.
    this.#ipam = new Ipam(NO_RANGES, saved === undefined ? {} : { state: saved.ipam });
    this.#restore(options.bpfRoot);
  }

  #loadAllocations(): Allocations | undefined {
    try {
      return this.#files.loadAllocations();
    } catch (thrown) {
      // Endpoint files hold the addresses too: what is lost is the order in which released ones come back.
      this.#log.error({ err: thrown }, "allocations cannot be read; taken from the endpoints");
      return undefined;
    }
  }

  #restore(bpfRoot: string): void {
    const { gone, faults } = this.engine.restore();
    for (const fault of faults) this.#log.error({ error: fault.detail }, "endpoint file cannot be used");
    const claims = this.#ipam.leases().map(({ owner, ...addresses }) => ({ ...owner, ...addresses }));
    for (const { id, containerId } of this.engine.rebuild(claims, pinnedEndpoints(bpfRoot))) {
      this.#log.warn({ endpoint: id, containerId }, "endpoint without its file taken over");
    }
    const adopted = this.engine.list();
    const held = new Set(adopted.map((e) => `${e.containerId}/${e.ifName}`));
    for (const lease of this.#ipam.leases()) {
      if (!held.has(`${lease.owner.containerId}/${lease.owner.ifName}`)) this.#ipam.release(lease.owner);
    }
    for (const endpoint of adopted) {
      if (this.#ipam.lease(endpoint) !== undefined) continue;
      try {
        const { containerId, ifName, network } = endpoint;
        this.#ipam.adopt({ owner: { containerId, ifName, network }, ...podAddresses(endpoint) });
      } catch (thrown) {
        this.#log.error({ err: thrown, endpoint: endpoint.id }, "address of an endpoint is held twice");
      }
    }
    for (const endpoint of gone)
      this.#log.info({ endpoint: endpoint.id }, "endpoint lost its device; released");
    this.goneAtStart = gone;
    if (gone.length > 0) this.#save();
  }

  #save(): void {
    this.#files.saveAllocations({ ipam: this.#ipam.snapshot(), nextEndpointId: this.engine.nextId });
  }

  setRanges(spec: IpamSpec): void {
    this.#ipam.setSpec(spec);
  }

  /** MTU of pods added from now on. */
  setMtu(mtu: number): void {
    this.#mtu = mtu;
  }

  setNotReady(why: string | undefined): void {
    this.#notReady = why;
  }

  connect(ports: EndpointPorts): Fault[] {
    return this.engine.connect(ports);
  }

  cidrCounts(): CidrCounts[] {
    return this.#ipam.cidrCounts();
  }

  ipamStatus(): IpamStatus {
    return this.#ipam.status();
  }

  notReady(): string | undefined {
    return this.#notReady;
  }

  /** @throws the faults of addresses and of wiring; nothing is left behind then */
  async add(request: PodRequest): Promise<PodInterface> {
    const known = this.engine.find(request);
    if (known !== undefined) {
      if (known.netns === request.netns && this.engine.problems(known).length === 0)
        return podInterface(known);
      // The same container with another namespace, or with a device that is lost: made anew.
      await this.remove(request);
    }
    const { containerId, ifName, netns, podName, podNamespace, args, config } = request;
    const lease = this.#ipam.allocate({ containerId, ifName, network: config.name });
    try {
      const endpoint = this.engine.add({
        containerId,
        ifName,
        netns,
        network: config.name,
        podName,
        podNamespace,
        podUid: args.K8S_POD_UID ?? "",
        mtu: this.#mtu,
        ...podAddresses(lease),
      });
      this.#save();
      this.#onChange(endpoint, false);
      return podInterface(endpoint);
    } catch (thrown) {
      this.#ipam.release(lease.owner);
      this.#save();
      throw thrown;
    }
  }

  /** Whether there was anything. Calls for one attachment are made one after the other. */
  remove(attachment: Attachment): Promise<boolean> {
    const removal = this.#remove(attachment).finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
    return removal;
  }

  /** Resolves when no removal is under way. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#removals);
  }

  async #remove(attachment: Attachment): Promise<boolean> {
    const endpoint = await this.engine.remove(attachment);
    // Flows of the endpoint have been swept: only now may its addresses come back.
    const lease = this.#ipam.release(attachment);
    if (endpoint === undefined && lease === undefined) return false;
    this.#save();
    if (endpoint !== undefined) this.#onChange(endpoint, true);
    return true;
  }

  check(request: PodRequest): { pod: PodInterface; problems: string[] } | undefined {
    const endpoint = this.engine.find(request);
    if (endpoint === undefined) return undefined;
    const problems = this.engine.problems(endpoint);
    if (request.netns !== "" && request.netns !== endpoint.netns) {
      problems.push(`the pod's network namespace was ${endpoint.netns}, is ${request.netns}`);
    }
    return { pod: podInterface(endpoint), problems };
  }

  attachments(network: string): Attachment[] {
    return this.engine
      .list()
      .filter((endpoint) => endpoint.network === network)
      .map(({ containerId, ifName }) => ({ containerId, ifName }));
  }

  /** The device of a pod of this node, "" for others. */
  deviceName(ifindex: number): string {
    return this.engine.list().find((endpoint) => endpoint.ifindex === ifindex)?.device ?? "";
  }

  /** `default/web` for an address of a pod of this node, "" for others. */
  nameOf(address: string): string {
    const endpoint = this.engine.list().find((e) => endpointAddresses(e).includes(address));
    if (endpoint === undefined) return "";
    return endpoint.podName === ""
      ? endpoint.containerId.slice(0, 12)
      : `${endpoint.podNamespace}/${endpoint.podName}`;
  }
}

function podAddresses(of: { ipv4?: string; ipv6?: string }): { ipv4?: string; ipv6?: string } {
  return {
    ...(of.ipv4 === undefined ? {} : { ipv4: of.ipv4 }),
    ...(of.ipv6 === undefined ? {} : { ipv6: of.ipv6 }),
  };
}
