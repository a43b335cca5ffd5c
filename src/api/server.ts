// SPDX-License-Identifier: Apache-2.0
// The agent's socket: HTTP over a unix socket that only root can open. It answers questions about the agent, streams
// flows, and takes the CNI plugin's requests. A request can neither be large nor hold anything up.
import { chmodSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { type FanOut, FlowQueue } from "../observe/fan-out.ts";
import type { CniHandler } from "./cni.ts";
import { faults } from "./faults.ts";
import type { Metrics } from "./metrics.ts";

/** What the server asks of the agent. Every answer is plain JSON; undefined is 404. */
export interface AgentView {
  status(): unknown;
  health(): { ok: boolean; text: string };
  endpoints(): unknown;
  endpoint(id: number): unknown;
  config(): unknown;
  nodes(): unknown;
  exclusions(): unknown;
  readonly metrics: Pick<Metrics, "expose" | "rows">;
  readonly flows: FanOut;
}

export interface ApiServerOptions {
  readonly socketPath: string;
  readonly view: AgentView;
  readonly cni: CniHandler;
  readonly log: Log;
}

const MAX_REQUEST_BYTES = 1 << 20;
const MAX_CONNECTIONS = 512;

function send(response: ServerResponse, status: number, body: unknown): void {
  // IPv6 pools have more addresses than a number can count.
  const text = JSON.stringify(body, (_, value) => (typeof value === "bigint" ? value.toString() : value));
  response.writeHead(status, { "content-type": "application/json" }).end(`${text}\n`);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_REQUEST_BYTES) throw faults.REQUEST_TOO_BIG({ limit: MAX_REQUEST_BYTES });
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (thrown) {
    throw faults.REQUEST_NOT_JSON({ why: Fault.from(thrown).detail }, thrown);
  }
}

/** Streams flows, one JSON object a line, until the reader goes away. A reader that does not read loses flows. */
function streamFlows(response: ServerResponse, flows: FanOut): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  const queue = new FlowQueue();
  let scheduled = false;
  const write = (): void => {
    scheduled = false;
    if (response.writableNeedDrain || response.destroyed) return;
    const items = queue.take();
    if (items.length > 0) response.write(items.map((item) => `${JSON.stringify(item)}\n`).join(""));
  };
  const wake = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(write);
  };
  queue.onReady(wake);
  flows.join(queue);
  response.on("drain", wake);
  response.on("close", () => {
    flows.leave(queue);
    queue.onReady(undefined);
  });
}

/** Answers of GET paths that take no argument. */
const QUESTIONS: Readonly<Record<string, (view: AgentView) => unknown>> = {
  "/v1/status": (view) => view.status(),
  "/v1/endpoints": (view) => view.endpoints(),
  "/v1/config": (view) => view.config(),
  "/v1/nodes": (view) => view.nodes(),
  "/v1/exclusions": (view) => view.exclusions(),
  "/v1/metrics": (view) => view.metrics.rows(),
};

/** The listening socket. */
export class AgentApiServer {
  readonly #options: ApiServerOptions;
  readonly #server: Server;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((thrown) => this.#refuse(response, thrown));
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.headersTimeout = 5_000;
    this.#server.requestTimeout = 30_000;
  }

  /** Listens; a socket file that a dead agent left is replaced. The caller holds the lock of the run directory. */
  async listen(): Promise<void> {
    const { socketPath } = this.#options;
    rmSync(socketPath, { force: true });
    // The file must never be open to others, not even between bind and chmod.
    const mask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject).listen(socketPath, resolve);
      });
    } finally {
      process.umask(mask);
    }
    chmodSync(socketPath, 0o600);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    rmSync(this.#options.socketPath, { force: true });
  }

  #refuse(response: ServerResponse, thrown: unknown): void {
    const fault = Fault.from(thrown);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const status =
      fault.code === "NO_SUCH_PATH" || fault.code === "NOT_FOUND" ? 404 : fault.retriable ? 503 : 400;
    send(response, status, { code: fault.code, msg: fault.detail });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { view, cni } = this.#options;
    const method = request.method ?? "GET";
    const { pathname } = new URL(request.url ?? "/", "http://agent");
    if (method === "POST" && pathname.startsWith("/v1/cni/")) {
      const answer = await cni.handle(pathname.slice("/v1/cni/".length), await readJson(request));
      send(response, answer.status, answer.body);
      return;
    }
    if (method !== "GET") throw faults.NO_SUCH_PATH({ method, path: pathname });
    if (pathname === "/v1/monitor") {
      streamFlows(response, view.flows);
      return;
    }
    if (pathname === "/metrics") {
      const { contentType, text } = await view.metrics.expose();
      response.writeHead(200, { "content-type": contentType }).end(text);
      return;
    }
    if (pathname === "/v1/health") {
      const health = view.health();
      send(response, health.ok ? 200 : 503, health);
      return;
    }
    const id = /^\/v1\/endpoints\/(\d{1,5})$/.exec(pathname)?.[1];
    const answer = id === undefined ? await QUESTIONS[pathname]?.(view) : view.endpoint(Number(id));
    if (answer === undefined) throw faults.NO_SUCH_PATH({ method, path: pathname });
    send(response, 200, answer);
  }
}
