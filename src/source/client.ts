// SPDX-License-Identifier: Apache-2.0
// Requests to a Kubernetes API server, in a cluster or embedded, through the official client library: kubeconfig, service
// account and unix socket alike. Objects stay plain JSON: the library's generated classes would drop fields that they do
// not know and cost 60 MB; each decoder of this folder checks what it reads.
import { HttpMethod, KubeConfig, RequestContext, Watch } from "@kubernetes/client-node";
import { Agent, fetch } from "undici";
import { Fault } from "../base/fault.ts";
import { faults } from "./faults.ts";

/** Where the API server is. Exactly one field is used, in this order; with none the pod's service account. */
export interface ApiAddress {
  /** `unix:///path`, `http://127.0.0.1:port`, `https://host:port`. */
  readonly api?: string;
  /** A kubeconfig file; with `api` as well, its server address is overridden. */
  readonly kubeconfig?: string;
}

/** An object of the API as it came. Nothing in it may be trusted. */
export interface ApiObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** One page of a list. */
export interface ApiList {
  readonly items: readonly ApiObject[];
  readonly resourceVersion: string;
  readonly next: string;
}

export type Query = Record<string, string | number | boolean | undefined>;

/** Answers over it are cut off: a list page of 500 objects of 1 MiB would be an attack. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
const JSON_TYPE = "application/json";

interface RequestParts {
  readonly query?: Query;
  readonly body?: object;
  readonly type?: string;
}

const REQUEST_TIMEOUT_MS = 10_000;

type Dispatcher = ReturnType<RequestContext["getDispatcher"]>;

/**
 * The library makes a new connection pool for every request (createDispatcher); this keeps the first one, and is where a
 * unix socket comes in.
 */
class SharedConfig extends KubeConfig {
  shared: Dispatcher;

  override async applySecurityAuthentication(context: RequestContext): Promise<void> {
    await super.applySecurityAuthentication(context);
    this.shared ??= context.getDispatcher() ?? (new Agent() as unknown as Dispatcher);
    context.setDispatcher(this.shared as NonNullable<Dispatcher>);
  }
}

function configFor(address: ApiAddress): SharedConfig {
  const config = new SharedConfig();
  const { api } = address;
  if (address.kubeconfig) {
    config.loadFromFile(address.kubeconfig);
    const cluster = config.getCurrentCluster();
    if (api && cluster) Object.assign(cluster, { server: api });
    return config;
  }
  if (!api) {
    config.loadFromCluster();
    return config;
  }
  const user = { name: "hookline" };
  if (api.startsWith("unix://")) {
    const socketPath = api.slice("unix://".length);
    if (!socketPath.startsWith("/"))
      throw faults.API_ADDRESS({ api, why: "a unix socket needs an absolute path" });
    // skipTLSVerify is the library's word for "plain HTTP is meant": a unix socket has no TLS.
    config.loadFromClusterAndUser({ name: "unix", server: "http://localhost", skipTLSVerify: true }, user);
    config.shared = new Agent({ connect: { socketPath } }) as unknown as Dispatcher;
    return config;
  }
  if (!/^https?:\/\//.test(api)) throw faults.API_ADDRESS({ api, why: "not unix://, http:// or https://" });
  const plain = api.startsWith("http:");
  config.loadFromClusterAndUser({ name: "api", server: api.replace(/\/$/, ""), skipTLSVerify: plain }, user);
  return config;
}

/** A client of one API server. Cheap; connections are made when needed and kept. */
export class KubeClient {
  readonly #config: SharedConfig;
  /** For people: the server's address, or the unix socket's. */
  readonly server: string;

  /** @throws Fault API_ADDRESS, or what the library says of an unusable kubeconfig */
  constructor(address: ApiAddress) {
    try {
      this.#config = configFor(address);
    } catch (thrown) {
      if (thrown instanceof Fault) throw thrown;
      const api = address.kubeconfig ?? address.api ?? "in-cluster service account";
      throw faults.API_ADDRESS(
        { api, why: thrown instanceof Error ? thrown.message : String(thrown) },
        thrown,
      );
    }
    this.server = address.api || (this.#config.getCurrentCluster()?.server ?? "");
  }

  async #request(
    method: HttpMethod,
    path: string,
    { query = {}, body, type }: RequestParts = {},
  ): Promise<unknown> {
    const url = new URL((this.#config.getCurrentCluster()?.server ?? "") + path);
    for (const [key, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(key, `${value}`);
    const context = new RequestContext(url.toString(), method);
    let text: string;
    let status: number;
    try {
      await this.#config.applySecurityAuthentication(context);
      const answer = await fetch(url, {
        method,
        headers: {
          ...context.getHeaders(),
          accept: "application/json",
          ...(body ? { "content-type": type } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
        dispatcher: context.getDispatcher(),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      } as Parameters<typeof fetch>[1]);
      if (Number(answer.headers.get("content-length") ?? 0) > MAX_ANSWER_BYTES)
        throw new Error("the answer is too big");
      status = answer.status;
      text = await answer.text();
    } catch (thrown) {
      throw faults.API_UNREACHABLE({ server: this.server, why: reason(thrown) }, thrown);
    }
    if (status >= 300) throw faults.API_STATUS({ method, path, status, why: statusMessage(text) });
    try {
      return JSON.parse(text);
    } catch (thrown) {
      throw faults.API_ANSWER({ method, path, why: reason(thrown) }, thrown);
    }
  }

  /** @throws Fault API_UNREACHABLE; API_STATUS with context.status */
  async get(path: string, query?: Query): Promise<ApiObject> {
    return (await this.#request(HttpMethod.GET, path, query ? { query } : {})) as ApiObject;
  }

  /** One page; `query.continue` is the `next` of the page before. */
  async list(path: string, query: Query): Promise<ApiList> {
    const answer = (await this.#request(HttpMethod.GET, path, query ? { query } : {})) as {
      items?: unknown;
      metadata?: { resourceVersion?: string; continue?: string };
    } | null;
    if (!Array.isArray(answer?.items)) throw faults.API_ANSWER({ method: "GET", path, why: "no items" });
    const items = answer.items.filter((item) => typeof item === "object" && item !== null) as ApiObject[];
    return {
      items,
      resourceVersion: answer.metadata?.resourceVersion ?? "",
      next: answer.metadata?.continue ?? "",
    };
  }

  async create(path: string, object: object): Promise<ApiObject> {
    return (await this.#request(HttpMethod.POST, path, { body: object, type: JSON_TYPE })) as ApiObject;
  }

  async replace(path: string, object: object): Promise<ApiObject> {
    return (await this.#request(HttpMethod.PUT, path, { body: object, type: JSON_TYPE })) as ApiObject;
  }

  /** A JSON merge patch (RFC 7386). */
  async merge(path: string, patch: object): Promise<ApiObject> {
    return (await this.#request(HttpMethod.PATCH, path, {
      body: patch,
      type: "application/merge-patch+json",
    })) as ApiObject;
  }

  /** Deletes; that the object is gone already is no error. */
  async delete(path: string): Promise<void> {
    try {
      await this.#request(HttpMethod.DELETE, path);
    } catch (thrown) {
      if (statusOf(thrown) !== 404) throw thrown;
    }
  }

  /**
   * A watch of the library. `onEvent` must not throw: the library would swallow it. `done` is called once.
   * `idleMs`: the library gives up after 30 s without a byte, less than the minute between two bookmarks of a quiet
   * kind; the field that says so is private in its typings.
   */
  async watch(
    path: string,
    query: Query,
    handlers: {
      onEvent: (type: string, object: ApiObject) => void;
      done: (error: unknown) => void;
      idleMs: number;
    },
  ): Promise<AbortController> {
    const watch = new Watch(this.#config);
    Object.assign(watch, { requestTimeoutMs: handlers.idleMs });
    return watch.watch(path, query, handlers.onEvent, handlers.done);
  }

  /** Ends all connections, watches included. */
  async close(): Promise<void> {
    await (this.#config.shared as unknown as Agent | undefined)?.destroy();
  }
}

/** HTTP status behind an error of this client or of the library's watch; undefined if there was no answer. */
export function statusOf(thrown: unknown): number | undefined {
  const status =
    thrown instanceof Fault
      ? thrown.context.status
      : (thrown as { statusCode?: unknown } | null | undefined)?.statusCode;
  return typeof status === "number" ? status : undefined;
}

/** The innermost message of an error: undici says only "fetch failed" outside. */
export function reason(thrown: unknown): string {
  let at = thrown;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at instanceof Error ? at.message || at.name : String(at);
}

function statusMessage(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === "string") return message.slice(0, 500);
  } catch {
    // Not a Status object: a proxy's page, shown cut.
  }
  return text.slice(0, 200);
}
