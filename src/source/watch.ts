// SPDX-License-Identifier: Apache-2.0
// Follows all objects of one path of the API: list, then watch from the list's resourceVersion, and again from the last
// one seen when the watch ends. It never gives up: an error waits with back-off, 410 lists anew, a kind that the server
// does not have (yet) counts as empty. An object that cannot be decoded is a fault beside its last good value.
import { backoffMs, sleep } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { type ApiObject, type KubeClient, type Query, reason, statusOf } from "./client.ts";

/** How a decoder reports: a value, or undefined if there is nothing in it for us; it throws a Fault if it is wrong. */
export type Decode<T> = (object: ApiObject) => T | undefined;

export interface WatchSpec<T> {
  /** For people: `nodes`. */
  readonly name: string;
  /** `/api/v1/nodes`. */
  readonly path: string;
  readonly query?: Query;
  /** A kind that a server need not have: 404 then means that there are no objects of it. */
  readonly optional?: boolean;
  readonly decode: Decode<T>;
  /** Called after the first list, and after every change, with all that is known. Calls are never parallel. */
  readonly onChange: (objects: ReadonlyMap<string, T>) => void;
}

/** How a watch fares, for `status`. */
export interface WatchHealth {
  readonly name: string;
  readonly path: string;
  /** The first list has been read. */
  readonly synced: boolean;
  /** A watch is open or the last request succeeded. */
  readonly connected: boolean;
  readonly objects: number;
  readonly resourceVersion: string;
  /** ms since the server was last heard of; undefined if never. */
  readonly silentMs: number | undefined;
  readonly relists: number;
  readonly lastError: string | undefined;
  /** Objects whose present version cannot be used. */
  readonly faults: readonly string[];
}

const PAGE = 500;
const MAX_OBJECTS = 200_000;
const ABSENT_RETRY_MS = 5_000;

const keyOf = (object: ApiObject): string => {
  const { namespace, name } = object.metadata ?? {};
  return namespace ? `${namespace}/${name}` : String(name ?? "");
};

/** One followed path. Start it with `run()`, end it with `stop()`. */
export class Watcher<T> {
  readonly spec: WatchSpec<T>;
  readonly #client: KubeClient;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #objects = new Map<string, T>();
  readonly #faults = new Map<string, Fault>();
  #version = "";
  #synced = false;
  #connected = false;
  #heard: number | undefined;
  #relists = 0;
  #failures = 0;
  #lastError: string | undefined;
  #scheduled = false;
  #loop: Promise<void> | undefined;

  constructor(client: KubeClient, spec: WatchSpec<T>, log: Log) {
    this.#client = client;
    this.spec = spec;
    this.#log = log.child({ watch: spec.name });
  }

  get objects(): ReadonlyMap<string, T> {
    return this.#objects;
  }

  get faults(): readonly Fault[] {
    return [...this.#faults.values()];
  }

  get synced(): boolean {
    return this.#synced;
  }

  health(): WatchHealth {
    return {
      name: this.spec.name,
      path: this.spec.path,
      synced: this.#synced,
      connected: this.#connected,
      objects: this.#objects.size,
      resourceVersion: this.#version,
      silentMs: this.#heard === undefined ? undefined : Math.round(performance.now() - this.#heard),
      relists: this.#relists,
      lastError: this.#lastError,
      faults: this.faults.map((fault) => fault.detail),
    };
  }

  /** Starts following; returns at once. */
  run(): void {
    this.#loop ??= this.#follow();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        if (this.#version === "") await this.#list();
        await this.#watch();
      } catch (thrown) {
        if (signal.aborted) break;
        const waitMs = this.#failed(thrown);
        await sleep(waitMs, signal).catch(() => undefined);
      }
    }
    this.#connected = false;
  }

  /** Notes an error and says how long to wait. */
  #failed(thrown: unknown): number {
    this.#connected = false;
    const status = statusOf(thrown);
    if (status === 410) {
      this.#version = "";
      return backoffMs(this.#failures++, 10, 2_000);
    }
    if (status === 404 && this.spec.optional && !(this.#synced && this.#objects.size > 0)) {
      // The kind is not known to this server: a CustomResourceDefinition that nobody needs. Empty, and asked again.
      this.#heardOf();
      this.#lastError = undefined;
      this.#announceFirst();
      return ABSENT_RETRY_MS;
    }
    const text = thrown instanceof Fault ? thrown.detail : reason(thrown);
    if (text !== this.#lastError) this.#log.warn({ error: text }, "API server not answering; retrying");
    this.#lastError = text;
    return backoffMs(this.#failures++, 50, 5_000);
  }

  #heardOf(): void {
    this.#heard = performance.now();
  }

  #announceFirst(): void {
    if (this.#synced) return;
    this.#synced = true;
    this.#changed();
  }

  async #list(): Promise<void> {
    const seen = new Map<string, ApiObject>();
    let next = "";
    let version = "";
    do {
      const query = { ...this.spec.query, limit: PAGE, continue: next === "" ? undefined : next };
      const page = await this.#client.list(this.spec.path, query);
      for (const object of page.items) seen.set(keyOf(object), object);
      version = page.resourceVersion;
      next = seen.size > MAX_OBJECTS ? "" : page.next;
    } while (next !== "");
    for (const key of [...this.#objects.keys(), ...this.#faults.keys()])
      if (!seen.has(key)) this.#remove(key);
    for (const [key, object] of seen) this.#put(key, object);
    this.#version = version;
    this.#relists++;
    this.#connected = true;
    this.#lastError = undefined;
    this.#heardOf();
    this.#synced = true;
    this.#changed();
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stop;
    const timeoutSeconds = 120 + Math.floor(Math.random() * 120);
    const ended = Promise.withResolvers<void>();
    const query = {
      ...this.spec.query,
      resourceVersion: this.#version,
      allowWatchBookmarks: true,
      timeoutSeconds,
    };
    const onEvent = (type: string, object: ApiObject): void => {
      try {
        this.#event(type, object);
      } catch (thrown) {
        ended.reject(thrown);
      }
    };
    const done = (error: unknown): void => (error ? ended.reject(error) : ended.resolve());
    const opened = performance.now();
    const request = await this.#client.watch(this.spec.path, query, {
      onEvent,
      done,
      idleMs: (timeoutSeconds + 30) * 1000,
    });
    const abort = (): void => request.abort();
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    this.#connected = true;
    try {
      await ended.promise;
    } finally {
      signal.removeEventListener("abort", abort);
      request.abort();
    }
    // A server that ends every watch at once must not be asked in a tight loop.
    if (performance.now() - opened < 1000) await sleep(backoffMs(this.#failures++, 20, 2_000), signal);
    else this.#failures = 0;
  }

  #event(type: string, object: ApiObject): void {
    this.#heardOf();
    this.#lastError = undefined;
    if (type === "ERROR") {
      const code = (object as { code?: unknown }).code;
      throw Object.assign(new Error(String((object as { message?: unknown }).message ?? "watch error")), {
        statusCode: typeof code === "number" ? code : 500,
      });
    }
    const version = object.metadata?.resourceVersion;
    if (typeof version === "string" && version !== "") this.#version = version;
    if (type === "BOOKMARK") return;
    const key = keyOf(object);
    if (type === "DELETED") this.#remove(key);
    else this.#put(key, object);
    this.#changed();
  }

  #put(key: string, object: ApiObject): void {
    try {
      const value = this.spec.decode(object);
      this.#faults.delete(key);
      if (value === undefined) this.#objects.delete(key);
      else this.#objects.set(key, value);
    } catch (thrown) {
      const fault = Fault.from(thrown, "OBJECT_INVALID");
      if (this.#faults.get(key)?.detail !== fault.detail) {
        this.#log.warn({ error: fault.detail }, "object refused; its last good version stays in force");
      }
      this.#faults.set(key, fault);
    }
  }

  #remove(key: string): void {
    this.#objects.delete(key);
    this.#faults.delete(key);
  }

  /** One call for all events that arrive together. */
  #changed(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#stop.signal.aborted) return;
      try {
        this.spec.onChange(this.#objects);
      } catch (thrown) {
        this.#log.error({ err: thrown }, "change not taken");
      }
    });
  }
}
