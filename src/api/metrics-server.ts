// SPDX-License-Identifier: Apache-2.0
// The Prometheus endpoint: GET /metrics over HTTP where option prometheus-serve-addr says, and nothing else. It follows the
// option while the agent runs; an address that cannot be had is told by `status` and tried again with every update.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { ListenAddress } from "../agent/option-types.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { faults } from "./faults.ts";
import type { Exposition } from "./metrics.ts";

const MAX_CONNECTIONS = 64;

export interface MetricsServerOptions {
  readonly expose: () => Promise<Exposition>;
  /** Told of every failure to listen, and with undefined when it is over. */
  readonly onFault: (fault: Fault | undefined) => void;
  readonly log: Log;
}

/** At most one listening socket, where it was last asked to be. */
export class MetricsServer {
  readonly #options: MetricsServerOptions;
  #wanted: ListenAddress | undefined;
  #server: Server | undefined;
  #failed = "";

  constructor(options: MetricsServerOptions) {
    this.#options = options;
  }

  /** Listens there, or with undefined nowhere. To be called again and again: nothing happens if nothing has changed. */
  follow(address: ListenAddress | undefined): void {
    const same = address?.host === this.#wanted?.host && address?.port === this.#wanted?.port;
    if (same && (this.#server !== undefined || address === undefined)) return;
    this.#wanted = address;
    this.#drop();
    if (address === undefined) this.#tell(undefined);
    else this.#listen(address);
  }

  #listen({ host, port }: ListenAddress): void {
    const server = createServer((request, response) => void this.#answer(request, response));
    server.maxConnections = MAX_CONNECTIONS;
    server.headersTimeout = 5_000;
    server.requestTimeout = 10_000;
    this.#server = server;
    server.once("error", (thrown) => {
      if (this.#server !== server) return;
      this.#server = undefined;
      this.#tell(faults.METRICS_ADDRESS({ host, port, why: Fault.from(thrown).detail }, thrown));
    });
    server.listen(port, host, () => {
      if (this.#server !== server) return;
      this.#tell(undefined);
      this.#options.log.info({ host, port }, "metrics are served");
    });
  }

  #tell(fault: Fault | undefined): void {
    const text = fault?.detail ?? "";
    if (text !== this.#failed && fault !== undefined) this.#options.log.error({ error: text }, "metrics");
    this.#failed = text;
    this.#options.onFault(fault);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0];
    if (request.method !== "GET" || path !== "/metrics") {
      response.writeHead(request.method === "GET" ? 404 : 405, { allow: "GET" }).end("GET /metrics\n");
      return;
    }
    try {
      const { contentType, text } = await this.#options.expose();
      response.writeHead(200, { "content-type": contentType }).end(text);
    } catch (thrown) {
      this.#options.log.error({ err: thrown }, "metrics not read");
      response.writeHead(500).end(`${Fault.from(thrown).detail}\n`);
    }
  }

  #drop(): void {
    const server = this.#server;
    this.#server = undefined;
    server?.close();
    server?.closeAllConnections();
  }

  close(): void {
    this.#wanted = undefined;
    this.#drop();
  }
}
