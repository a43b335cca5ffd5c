// SPDX-License-Identifier: Apache-2.0
// Makes, keeps and removes endpoints: the pod's network, its entries in `endpoints` and `endpoint_addrs`, its programs,
// its file. The order is that of trust: a pod that can send has an entry, and an entry that is gone has no device left.
import type { Fault } from "../../base/fault.ts";
import { Fault as FaultClass } from "../../base/fault.ts";
import { findLink, listLinks } from "../../kernel/netlink/link.ts";
import type { RtNetlink } from "../../kernel/netlink/socket.ts";
import { wiringProblems } from "./check.ts";
import { faults } from "./faults.ts";
import { type EndpointEntry, EndpointIds, hostDeviceName, planEndpoints } from "./plan.ts";
import { type Claim, rebuildEndpoint } from "./rebuild.ts";
import { attachmentKey, type Endpoint, type EndpointSpec } from "./spec.ts";
import { EndpointFiles } from "./state.ts";
import { unwire, unwireLater, wire } from "./wire.ts";

/** What the engine asks of the data plane. */
export interface EndpointPorts {
  /** Makes the maps hold exactly this; throws if an entry could not be written. */
  readonly write: (maps: ReturnType<typeof planEndpoints>) => void;
  /** Attaches the pod programs to a device, or swaps what is attached for them. */
  readonly attach: (ifindex: number) => void;
  /** Forgets a device that is gone. */
  readonly detach: (ifindex: number) => void;
  /** Removes flows of endpoints that are gone by now; resolves when it has gone through them all. */
  readonly sweep: () => Promise<void>;
}

/** All endpoints of the node. What has returned, or for `remove` resolved, is in force. */
export class EndpointEngine {
  readonly #netlink: RtNetlink;
  readonly #openNetlink: () => RtNetlink;
  readonly #files: EndpointFiles;
  readonly #ids: EndpointIds;
  readonly #endpoints = new Map<string, Endpoint>();
  #ports: EndpointPorts | undefined;

  /** `openNetlink` gives further sockets in the namespace of `netlink`. */
  constructor(options: {
    netlink: RtNetlink;
    openNetlink: () => RtNetlink;
    stateDir: string;
    nextId?: number;
  }) {
    this.#netlink = options.netlink;
    this.#openNetlink = options.openNetlink;
    this.#files = new EndpointFiles(options.stateDir);
    this.#ids = new EndpointIds(options.nextId);
  }

  /** Where the search for ids goes on, for the state folder. */
  get nextId(): number {
    return this.#ids.next;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  list(): Endpoint[] {
    return [...this.#endpoints.values()];
  }

  byId(id: number): Endpoint | undefined {
    return this.list().find((endpoint) => endpoint.id === id);
  }

  find(attachment: { containerId: string; ifName: string }): Endpoint | undefined {
    return this.#endpoints.get(attachmentKey(attachment));
  }

  /**
   * Takes over the endpoints of the state folder whose device is still there. What was half made, or lost its
   * namespace and with it the device, is removed and given back, so that its addresses can be released.
   */
  restore(): { adopted: Endpoint[]; gone: Endpoint[]; faults: Fault[] } {
    const { endpoints, faults: found } = this.#files.load();
    const links = new Map(listLinks(this.#netlink).map((link) => [link.name, link]));
    const gone: Endpoint[] = [];
    for (const endpoint of endpoints) {
      const link = links.get(endpoint.device);
      if (link?.index === endpoint.ifindex && link.mac === endpoint.hostMac) {
        this.#ids.adopt(endpoint.id);
        this.#endpoints.set(attachmentKey(endpoint), endpoint);
        continue;
      }
      if (link !== undefined) unwire(endpoint.device, this.#netlink);
      this.#files.remove(endpoint.id);
      gone.push(endpoint);
    }
    return { adopted: this.list(), gone, faults: found };
  }

  /**
   * Takes over pods whose file is lost or cannot be read, from who holds which addresses and what `endpoints` holds in the
   * kernel, by device index; gives those it could. For after `restore`.
   */
  rebuild(claims: Iterable<Claim>, entries: ReadonlyMap<number, EndpointEntry>): Endpoint[] {
    const ids = new Set(this.list().map((endpoint) => endpoint.id));
    const rebuilt: Endpoint[] = [];
    for (const claim of claims) {
      const key = attachmentKey(claim);
      const link = findLink(this.#netlink, hostDeviceName(claim.containerId, claim.ifName));
      const entry = link === undefined ? undefined : entries.get(link.index);
      if (this.#endpoints.has(key) || link === undefined || entry === undefined || ids.has(entry.id))
        continue;
      const endpoint = rebuildEndpoint(claim, link, entry);
      if (endpoint === undefined) continue;
      this.#ids.adopt(endpoint.id);
      this.#files.save(endpoint);
      this.#endpoints.set(key, endpoint);
      rebuilt.push(endpoint);
    }
    return rebuilt;
  }

  /** Connects a loaded data plane, at start: every pod gets its entries and its programs. */
  connect(ports: EndpointPorts): Fault[] {
    this.#ports = ports;
    const found: Fault[] = [];
    ports.write(planEndpoints(this.#endpoints.values()));
    for (const endpoint of this.#endpoints.values()) {
      try {
        ports.attach(endpoint.ifindex);
      } catch (thrown) {
        found.push(FaultClass.from(thrown));
      }
    }
    return found;
  }

  /**
   * @throws Fault ENDPOINT_EXISTS, ENDPOINT_NETNS, ENDPOINT_WIRING, those of the maps and of attaching; nothing is left
   * behind then
   */
  add(spec: EndpointSpec): Endpoint {
    const ports = this.#ports;
    const key = attachmentKey(spec);
    if (ports === undefined || this.#endpoints.has(key)) throw faults.ENDPOINT_EXISTS({ ...spec });
    const id = this.#ids.allocate();
    const device = hostDeviceName(spec.containerId, spec.ifName);
    const createdAt = new Date().toISOString();
    const draft: Endpoint = { ...spec, id, device, ifindex: 0, mac: "", hostMac: "", identity: 0, createdAt };
    try {
      this.#files.save(draft);
      const endpoint: Endpoint = { ...draft, ...wire(spec, this.#netlink) };
      this.#files.save(endpoint);
      this.#endpoints.set(key, endpoint);
      ports.write(planEndpoints(this.#endpoints.values()));
      ports.attach(endpoint.ifindex);
      return endpoint;
    } catch (thrown) {
      this.#drop(draft);
      throw thrown;
    }
  }

  /**
   * Removes device, entries, flows and file; undefined if there was nothing. The entry goes first: a pod that is to be
   * removed must not open flows any more. Other calls may come while the device goes, but none for the same attachment.
   * @throws the kernel's refusal; the endpoint is as it was then
   */
  async remove(attachment: { containerId: string; ifName: string }): Promise<Endpoint | undefined> {
    const key = attachmentKey(attachment);
    const endpoint = this.#endpoints.get(key);
    if (endpoint === undefined) return undefined;
    this.#forget(endpoint);
    try {
      await unwireLater(endpoint.device, this.#openNetlink);
    } catch (thrown) {
      this.#endpoints.set(key, endpoint);
      this.#ports?.write(planEndpoints(this.#endpoints.values()));
      throw thrown;
    }
    await this.#release(endpoint);
    return endpoint;
  }

  /** Undoes what an `add` that failed has made. */
  #drop(endpoint: Endpoint): void {
    this.#forget(endpoint);
    unwire(endpoint.device, this.#netlink);
    void this.#release(endpoint);
  }

  #forget(endpoint: Endpoint): void {
    this.#endpoints.delete(attachmentKey(endpoint));
    this.#ports?.write(planEndpoints(this.#endpoints.values()));
  }

  /** The id last: nobody else may be taken for the owner of flows that are still there. */
  async #release(endpoint: Endpoint): Promise<void> {
    if (endpoint.ifindex !== 0) this.#ports?.detach(endpoint.ifindex);
    this.#files.remove(endpoint.id);
    await this.#ports?.sweep();
    this.#ids.release(endpoint.id);
  }

  /** What of an endpoint is not as it was made. */
  problems(endpoint: Endpoint): string[] {
    return wiringProblems(endpoint, this.#netlink);
  }
}
