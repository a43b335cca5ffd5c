// SPDX-License-Identifier: Apache-2.0
// The embedded API server put together: store, kinds, endpoints, manifests. One per lab, or inside the agent's process on
// a host without Kubernetes; its clients use it as they would a cluster's.
import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Log } from "../base/log.ts";
import { OWN_NAMESPACES, Remover } from "./core/remover.ts";
import { newCore, Writer } from "./core/writer.ts";
import { CILIUM_CRDS } from "./crds/cilium.ts";
import { faults } from "./faults.ts";
import { Handler } from "./http/handler.ts";
import { Watches } from "./http/watch.ts";
import { KINDS } from "./kinds/kinds.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import type { Certificates } from "./listen/certificates.ts";
import { writeKubeconfig } from "./listen/kubeconfig.ts";
import { listenTls, listenUnix } from "./listen/listen.ts";
import { AppliedManifests } from "./manifests/applied.ts";
import { ManifestFolder } from "./manifests/folder.ts";
import type { ManifestFault } from "./manifests/read.ts";
import { Registry } from "./registry.ts";
import { builtinDefinitions } from "./schema/builtin.ts";
import { Clock } from "./store/collection.ts";

export interface TcpOptions {
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** File to write for kubectl, mode 0600. */
  kubeconfig?: string;
  /** Bearer token of at least 16 characters; made anew if absent. */
  token?: string;
  /** PEM texts; made anew if absent. */
  tls?: Certificates;
  /** Allows addresses other than loopback. */
  allowRemote?: boolean;
}

export interface ApiServerOptions {
  /** Path of a unix socket; whoever may open it needs no token. */
  unixSocket?: string;
  tcp?: TcpOptions;
  /** Folder whose manifests are loaded and followed. */
  manifestsDir?: string;
  /** Pods on a node stay, marked as terminating, until their runner deletes them with gracePeriodSeconds=0. */
  podGrace?: boolean;
  log: Log;
  limits?: Partial<Limits>;
}

export interface ApiServer {
  /** `unix:///path` or `https://host:port`; the unix socket if there are both. */
  readonly url: string;
  /** `https://host:port` when TCP was asked for. */
  readonly tcpUrl: string | undefined;
  /** Path of the kubeconfig, when one was asked for. */
  readonly kubeconfig: string | undefined;
  /** Everything that is wrong with the manifests now. */
  manifestFaults(): ManifestFault[];
  /** Ends watches and connections, removes the socket. */
  close(): Promise<void>;
}

/**
 * Starts a server; it answers when the promise resolves, with the manifests in force.
 * @throws Fault LISTEN, LISTEN_UNSAFE
 */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { unixSocket, tcp, manifestsDir, log } = options;
  if (!unixSocket && !tcp)
    throw faults.LISTEN({ where: "nowhere", why: "neither unixSocket nor tcp is given" });
  const limits: Limits = { ...DEFAULT_LIMITS, ...options.limits };
  const registry = new Registry(new Clock(), limits);
  const core = newCore(registry, limits);
  const remover = new Remover(core, options.podGrace ?? false);
  const writer = new Writer(core, (resource, item) => remover.remove(resource, item));
  plantOwnObjects(registry, writer);
  const ready = async () => {
    core.definitions = await builtinDefinitions(KINDS.map((kind) => kind.model));
  };
  const watches = new Watches(limits);
  const handler = new Handler({ core, writer, remover, watches, ready, log });
  const servers: Server[] = [];
  let folder: ManifestFolder | undefined;
  const close = async () => {
    await folder?.close();
    watches.close();
    await Promise.all(servers.map(closeServer));
  };
  try {
    if (manifestsDir) {
      await ready();
      folder = new ManifestFolder(manifestsDir, new AppliedManifests(registry, writer, remover), limits, log);
      await folder.start();
      followAwaited(registry, folder);
    }
    if (unixSocket) servers.push(await listenUnix(unixSocket, handler, limits));
    const tcpUrl = tcp ? await startTcp(tcp, servers, handler, limits) : undefined;
    const url = unixSocket ? `unix://${unixSocket}` : (tcpUrl as string);
    log.info({ url, tcpUrl, manifests: manifestsDir }, "API server listening");
    return { url, tcpUrl, kubeconfig: tcp?.kubeconfig, manifestFaults: () => folder?.faults ?? [], close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

function plantOwnObjects(registry: Registry, writer: Writer): void {
  for (const name of OWN_NAMESPACES) {
    writer.plant(registry.builtin("namespaces"), { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  }
  for (const crd of CILIUM_CRDS)
    writer.plant(registry.builtin("customresourcedefinitions"), structuredClone(crd));
}

/** Documents may wait for a kind or a namespace, whoever brings it. */
function followAwaited(registry: Registry, folder: ManifestFolder): void {
  registry.onChange(() => folder.retry());
  registry.builtin("namespaces").collection.subscribe({
    event: (event) => {
      if (event.type === "ADDED") folder.retry();
    },
    closed: () => {},
  });
}

async function startTcp(
  tcp: TcpOptions,
  servers: Server[],
  handler: Handler,
  limits: Limits,
): Promise<string> {
  const { host, port, allowRemote = false } = tcp;
  const token = tcp.token ?? randomBytes(32).toString("base64url");
  // Loaded only for TCP: the certificate library is large.
  const certificates = tcp.tls ?? (await (await import("./listen/certificates.ts")).makeCertificates(host));
  const server = await listenTls({ host, port, allowRemote }, { certificates, token }, handler, limits);
  servers.push(server);
  const url = `https://${host.includes(":") ? `[${host}]` : host}:${(server.address() as AddressInfo).port}`;
  if (tcp.kubeconfig) writeKubeconfig(tcp.kubeconfig, { server: url, ca: certificates.ca, token });
  return url;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
