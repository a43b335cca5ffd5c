// SPDX-License-Identifier: Apache-2.0
// One watch: the state or the history a client asks for, then every event that its selectors let through, until its time
// is over. Bookmarks tell how far it is. A client that reads slower than events come is cut off and lists again.
import type { ServerResponse } from "node:http";
import { numberOf, objectAt, selection, textAtVersion } from "../core/reader.ts";
import { faults } from "../faults.ts";
import type { Limits } from "../limits.ts";
import type { Resource } from "../registry.ts";
import type { Predicate } from "../selector.ts";
import { failure } from "../status.ts";
import type { Item, StoreEvent } from "../store/collection.ts";
import { type Form, partialMetadata, table } from "../table/table.ts";

export interface WatchRequest {
  resource: Resource;
  namespace: string | undefined;
  /** Set when the URL names one object. */
  name: string | undefined;
  query: URLSearchParams;
  form: Form;
}

/** All open watches of a server. */
export class Watches {
  readonly #limits: Limits;
  readonly #open = new Set<WatchStream>();

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** @throws Fault API_TOO_MANY, API_BAD_REQUEST; later errors are events of the stream */
  start(request: WatchRequest, response: ServerResponse): void {
    if (this.#open.size >= this.#limits.watches) {
      throw faults.API_TOO_MANY({
        why: `${this.#limits.watches} watches are open, the limit of this server`,
      });
    }
    const stream = new WatchStream(request, response, this.#limits);
    this.#open.add(stream);
    stream.run(() => this.#open.delete(stream));
  }

  /** Ends all watches as if their time were over. */
  close(): void {
    for (const stream of [...this.#open]) stream.end();
  }
}

type Change = { type: "ADDED" | "MODIFIED" | "DELETED"; item: Item };

class WatchStream {
  readonly #request: WatchRequest;
  readonly #response: ServerResponse;
  readonly #limits: Limits;
  readonly #selects: Predicate;
  readonly #from: number;
  readonly #bookmarks: boolean;
  readonly #initialEvents: boolean;
  readonly #timeoutMs: number;
  /** Initial state: references to stored texts, so it does not count as buffered. */
  #backlog: Change[] = [];
  #queue: string[] = [];
  #queuedBytes = 0;
  #blocked = false;
  #firstTable = true;
  #stop: (() => void)[] = [];
  #ended = false;

  constructor(request: WatchRequest, response: ServerResponse, limits: Limits) {
    const { query, resource, namespace, name } = request;
    this.#request = request;
    this.#response = response;
    this.#limits = limits;
    const selects = selection(resource, namespace, query);
    this.#selects = (object) =>
      (name === undefined || (object as Item["object"]).metadata.name === name) && selects(object);
    this.#from = numberOf(query, "resourceVersion") ?? 0;
    this.#bookmarks = /^(true|1)$/.test(query.get("allowWatchBookmarks") ?? "");
    this.#initialEvents = query.get("sendInitialEvents") === "true";
    const seconds = numberOf(query, "timeoutSeconds");
    // Spread over half the span, so that a thousand clients do not come back in one moment.
    const life = limits.watchMs * (0.5 + Math.random() / 2);
    this.#timeoutMs = seconds ? Math.min(seconds * 1000, limits.watchMs) : life;
  }

  run(ended: () => void): void {
    const response = this.#response;
    response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-cache, private" });
    response.flushHeaders();
    this.#stop.push(ended);
    response.on("close", () => this.end());
    response.on("drain", () => {
      this.#blocked = false;
      this.#flush();
    });
    try {
      this.#begin();
    } catch (thrown) {
      this.#send(JSON.stringify({ type: "ERROR", object: failure(thrown) }));
      this.end();
      return;
    }
    const timer = setTimeout(() => {
      if (this.#bookmarks) this.#bookmark();
      this.end();
    }, this.#timeoutMs);
    this.#stop.push(() => clearTimeout(timer));
    if (this.#bookmarks) {
      const interval = setInterval(() => this.#bookmark(), this.#limits.bookmarkMs);
      this.#stop.push(() => clearInterval(interval));
    }
    this.#flush();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const stop of this.#stop) stop();
    if (!this.#response.destroyed) this.#response.end();
  }

  #begin(): void {
    const { collection } = this.#request.resource;
    // No version, or 0, means "any state, then go on": the present one.
    const state = this.#from === 0 || this.#initialEvents;
    if (state) {
      const items = collection.items().filter((item) => this.#selects(item.object));
      this.#backlog = items.map((item) => ({ type: "ADDED", item }));
      if (this.#initialEvents && this.#bookmarks) {
        this.#enqueue(this.#bookmarkText({ "k8s.io/initial-events-end": "true" }));
      }
    } else for (const event of collection.since(this.#from)) this.#event(event);
    const unsubscribe = collection.subscribe({
      event: (event) => this.#event(event),
      closed: () => this.end(),
    });
    this.#stop.push(unsubscribe);
  }

  /** An object that stops matching leaves the client's view, one that begins to match enters it. */
  #event(event: StoreEvent): void {
    const before = event.previous !== undefined && this.#selects(event.previous.object);
    const after = event.type !== "DELETED" && this.#selects(event.item.object);
    if (!before && !after) return;
    const type = !after ? "DELETED" : before ? "MODIFIED" : "ADDED";
    this.#enqueue(this.#text({ type, item: event.item }));
    this.#flush();
  }

  #text({ type, item }: Change): string {
    const { resource, form } = this.#request;
    if (form.as === "Object") return `{"type":"${type}","object":${textAtVersion(resource, item)}}`;
    const object = objectAt(resource, item);
    if (form.as === "PartialObjectMetadata") {
      return JSON.stringify({ type, object: partialMetadata(object, form.version) });
    }
    const metadata = { resourceVersion: object.metadata.resourceVersion };
    const body = table([object], resource.columns, form, { metadata, definitions: this.#firstTable });
    this.#firstTable = false;
    return JSON.stringify({ type, object: body });
  }

  #bookmark(): void {
    this.#enqueue(this.#bookmarkText());
    this.#flush();
  }

  #bookmarkText(annotations?: Record<string, string>): string {
    const { resource, form } = this.#request;
    const metadata = {
      resourceVersion: String(resource.collection.version),
      ...(annotations ? { annotations } : { creationTimestamp: null }),
    };
    const object =
      form.as === "Table"
        ? { ...table([], resource.columns, form, { metadata, definitions: this.#firstTable }) }
        : form.as === "PartialObjectMetadata"
          ? { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${form.version}`, metadata }
          : { kind: resource.kind, apiVersion: resource.apiVersion, metadata };
    return JSON.stringify({ type: "BOOKMARK", object });
  }

  #enqueue(text: string): void {
    if (this.#ended) return;
    this.#queue.push(text);
    this.#queuedBytes += text.length;
  }

  #flush(): void {
    if (this.#ended) return;
    let next = 0;
    for (; next < this.#backlog.length && !this.#blocked; next++)
      this.#send(this.#text(this.#backlog[next] as Change));
    if (next > 0) this.#backlog = this.#backlog.slice(next);
    if (this.#backlog.length === 0 && !this.#blocked) {
      let sent = 0;
      while (sent < this.#queue.length && !this.#blocked) {
        const text = this.#queue[sent++] as string;
        this.#queuedBytes -= text.length;
        this.#send(text);
      }
      this.#queue = this.#queue.slice(sent);
    }
    if (this.#queuedBytes > this.#limits.watchBufferBytes) {
      // Not ended properly: the client must see that it missed something and list again.
      this.#response.destroy();
      this.end();
    }
  }

  #send(text: string): void {
    if (this.#response.destroyed) return;
    // Readers that split at Unicode line ends (Node's readline, and with it the JavaScript client library) would tear an
    // event apart; the Kubernetes API server escapes the two as well.
    const line = text.replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
    this.#blocked = !this.#response.write(`${line}\n`);
  }
}
