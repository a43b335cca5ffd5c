// SPDX-License-Identifier: Apache-2.0
// The requests that name no resource: health, version, discovery, OpenAPI.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Core } from "../core/writer.ts";
import { aggregated, apiGroupList, apiGroupOf, apiResourceList, apiVersions, VERSION } from "../discovery.ts";
import { faults } from "../faults.ts";
import { openApiV2Definitions, openApiV3, openApiV3Index } from "../openapi/documents.ts";
import { encodeOpenApiV2, OPENAPI_V2_PROTO } from "../openapi/proto.ts";
import { sendJson, sendText } from "./answer.ts";
import { aggregatedDiscovery } from "./negotiate.ts";

/** Answers what is not about objects. `ready` loads the built-in schemas. */
export class Documents {
  readonly #core: Core;
  readonly #ready: () => Promise<void>;
  #v2: { generation: number; proto: Buffer } | undefined;

  constructor(core: Core, ready: () => Promise<void>) {
    this.#core = core;
    this.#ready = ready;
  }

  /** @throws Fault API_NO_ROUTE */
  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    segments: readonly string[],
  ): Promise<void> {
    const [first = "", second = "", third = ""] = segments;
    const { registry } = this.#core;
    const depth = segments.length;
    if (depth === 1 && /^(healthz|livez|readyz)$/.test(first)) sendText(response, 200, "ok", "text/plain");
    else if (depth === 1 && first === "version") sendJson(response, 200, VERSION);
    else if (first === "openapi") await this.#openApi(request, response, segments.slice(1));
    else if (depth === 0)
      sendJson(response, 200, {
        paths: ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"],
      });
    else if (depth === 1 && (first === "api" || first === "apis"))
      this.#groups(request, response, first === "api");
    else if (first === "api" && depth === 2) this.#found(response, apiResourceList(registry, "", second));
    else if (first === "apis" && depth === 2) this.#found(response, apiGroupOf(registry, second));
    else if (first === "apis" && depth === 3) this.#found(response, apiResourceList(registry, second, third));
    else throw faults.API_NO_ROUTE();
  }

  #found(response: ServerResponse, document: unknown): void {
    if (document === undefined) throw faults.API_NO_ROUTE();
    sendJson(response, 200, document);
  }

  #groups(request: IncomingMessage, response: ServerResponse, core: boolean): void {
    const { registry } = this.#core;
    response.setHeader("Vary", "Accept");
    const version = aggregatedDiscovery(request.headers.accept);
    if (version) {
      const type = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
      sendJson(response, 200, aggregated(registry, version, core), type);
    } else sendJson(response, 200, core ? apiVersions() : apiGroupList(registry));
  }

  async #openApi(
    request: IncomingMessage,
    response: ServerResponse,
    segments: readonly string[],
  ): Promise<void> {
    await this.#ready();
    const { registry, definitions } = this.#core;
    const [version, root, first = "", second = ""] = segments;
    if (version === "v2" && segments.length === 1) this.#openApiV2(request, response);
    else if (version !== "v3") throw faults.API_NO_ROUTE();
    else if (root === undefined) sendJson(response, 200, openApiV3Index(registry));
    else {
      const [group, of] = root === "api" ? ["", first] : [first, second];
      this.#found(response, openApiV3(registry, definitions, group, of));
    }
  }

  #openApiV2(request: IncomingMessage, response: ServerResponse): void {
    const { registry, definitions } = this.#core;
    const accept = request.headers.accept ?? "";
    if (accept.includes("application/com.github.proto-openapi.spec.v2")) {
      if (this.#v2?.generation !== registry.generation) {
        const proto = encodeOpenApiV2(openApiV2Definitions(registry, definitions), VERSION.gitVersion);
        this.#v2 = { generation: registry.generation, proto };
      }
      response.writeHead(200, { "Content-Type": OPENAPI_V2_PROTO, "Content-Length": this.#v2.proto.length });
      response.end(this.#v2.proto);
      return;
    }
    const info = { title: "Kubernetes", version: VERSION.gitVersion };
    sendJson(response, 200, {
      swagger: "2.0",
      info,
      paths: {},
      definitions: openApiV2Definitions(registry, definitions),
    });
  }
}
