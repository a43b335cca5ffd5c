// SPDX-License-Identifier: Apache-2.0
// One request from its first line to its answer: authentication, routing, the verb of the API that method and path mean,
// and the form of the answer. Whatever goes wrong becomes a Status.
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Fault } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { WriteOptions } from "../core/accept.ts";
import type { Address } from "../core/owners.ts";
import { list, selection } from "../core/reader.ts";
import { type Remover, readDeleteOptions } from "../core/remover.ts";
import type { Core, Writer } from "../core/writer.ts";
import { faults } from "../faults.ts";
import type { KubeObject } from "../json.ts";
import { applyJsonPatch } from "../patch/json-patch.ts";
import { mergePatch } from "../patch/merge-patch.ts";
import { strategicMerge } from "../patch/strategic.ts";
import type { Resource } from "../registry.ts";
import { success } from "../status.ts";
import type { Form } from "../table/table.ts";
import { sendFailure, sendJson, sendObject, sendPage, warn } from "./answer.ts";
import { contentType, readObject, readPatch } from "./body.ts";
import { Documents } from "./documents.ts";
import { acceptedForm } from "./negotiate.ts";
import { type ResourcePath, readTarget, resourcePath } from "./path.ts";
import type { Watches } from "./watch.ts";

export interface HandlerParts {
  core: Core;
  writer: Writer;
  remover: Remover;
  watches: Watches;
  /** Loads the built-in schemas; writes wait for it. */
  ready: () => Promise<void>;
  log: Log;
}

interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  resource: Resource;
  path: ResourcePath;
  query: URLSearchParams;
  form: Form;
}

const PATCHES = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
};

export class Handler {
  readonly #parts: HandlerParts;
  readonly #documents: Documents;

  constructor(parts: HandlerParts) {
    this.#parts = parts;
    this.#documents = new Documents(parts.core, parts.ready);
  }

  /** Answers a request; never throws. `token` is what a bearer token must be, undefined where none is needed. */
  async handle(request: IncomingMessage, response: ServerResponse, token: string | undefined): Promise<void> {
    response.on("error", () => {});
    try {
      authenticate(request, token);
      const { segments, query } = readTarget(request.url ?? "/", this.#parts.core.limits.urlBytes);
      const path = resourcePath(segments);
      if (path) await this.#resource(request, response, path, query);
      else if (request.method === "GET") await this.#documents.answer(request, response, segments);
      else throw method(request);
    } catch (thrown) {
      if (!(thrown instanceof Fault))
        this.#parts.log.error({ err: thrown, url: request.url }, "request failed");
      sendFailure(response, thrown);
    }
  }

  async #resource(
    request: IncomingMessage,
    response: ServerResponse,
    path: ResourcePath,
    query: URLSearchParams,
  ): Promise<void> {
    const resource = this.#parts.core.registry.find(path.group, path.version, path.plural);
    if (!resource) throw faults.API_NO_ROUTE();
    if (path.namespace !== undefined && !resource.namespaced) throw faults.API_NO_ROUTE();
    const form = acceptedForm(request.headers.accept, query);
    const call: Call = { request, response, resource, path, query, form };
    if (path.name === undefined) await this.#collection(call);
    else {
      if (resource.namespaced && path.namespace === undefined) throw faults.API_NO_ROUTE();
      await this.#object(call, { resource, namespace: path.namespace, name: path.name });
    }
  }

  async #collection(call: Call): Promise<void> {
    const { request, response, resource, path, query, form } = call;
    const { writer, ready, watches } = this.#parts;
    if (request.method === "GET" && watching(query)) {
      watches.start({ resource, namespace: path.namespace, name: undefined, query, form }, response);
    } else if (request.method === "GET") {
      sendPage(response, resource, list(resource, path.namespace, query), form);
    } else if (request.method === "POST" && (path.namespace !== undefined || !resource.namespaced)) {
      const body = await this.#body(request);
      await ready();
      const options = writeOptions(query);
      const object = writer.create(resource, path.namespace, body, options);
      this.#sendWritten(call, 201, object, options);
    } else if (request.method === "DELETE" && (path.namespace !== undefined || !resource.namespaced)) {
      await this.#deleteCollection(call);
    } else throw method(request);
  }

  async #object(call: Call, address: Address): Promise<void> {
    const { request, response, resource, path, query, form } = call;
    const { writer, watches } = this.#parts;
    const { subresource } = path;
    if (subresource === "binding" && resource.builtin?.plural === "pods")
      return await this.#bind(call, address);
    if (subresource !== "" && !(subresource === "status" && resource.status)) throw faults.API_NO_ROUTE();
    switch (request.method) {
      case "GET":
        if (watching(query) && subresource === "") {
          watches.start({ resource, namespace: path.namespace, name: address.name, query, form }, response);
        } else sendObject(response, resource, writer.current(address), { form, code: 200 });
        return;
      case "PUT":
      case "PATCH":
        return await this.#write(call, address);
      case "DELETE":
        if (subresource !== "") throw method(request);
        return await this.#delete(call, address);
      default:
        throw method(request);
    }
  }

  async #write(call: Call, address: Address): Promise<void> {
    const { request, resource, path, query } = call;
    const { core, writer, ready } = this.#parts;
    const options = writeOptions(query);
    let object: KubeObject;
    if (request.method === "PUT") {
      const body = await this.#body(request);
      await ready();
      object = writer.update(address, path.subresource, body, options);
    } else {
      const types = resource.builtin ? Object.values(PATCHES) : [PATCHES.json, PATCHES.merge];
      const body = await readPatch(request, types, core.limits);
      await ready();
      const type = contentType(request);
      object = writer.patch(
        address,
        path.subresource,
        (current) => {
          if (type === PATCHES.json) return applyJsonPatch(current, body, core.limits);
          if (type === PATCHES.merge) return mergePatch(current, body);
          return strategicMerge(current, body, resource.schema, core.definitions);
        },
        options,
      );
    }
    this.#sendWritten(call, 200, object, options);
  }

  async #bind(call: Call, address: Address): Promise<void> {
    const { request, response, query } = call;
    if (request.method !== "POST") throw method(request);
    const body = await this.#body(request);
    await this.#parts.ready();
    this.#parts.writer.bind(address, body, writeOptions(query));
    sendJson(response, 201, success({ name: address.name, kind: "pods" }, 201));
  }

  async #delete(call: Call, address: Address): Promise<void> {
    const { request, response, resource, query } = call;
    const options = readDeleteOptions(await this.#body(request), query);
    const { object, gone } = this.#parts.remover.delete(address, options);
    if (!gone) {
      sendJson(response, 200, { ...object, apiVersion: resource.apiVersion });
      return;
    }
    const { name, uid } = object.metadata;
    const { group, plural } = resource;
    sendJson(response, 200, success({ name, ...(group ? { group } : {}), kind: plural, uid }));
  }

  async #deleteCollection(call: Call): Promise<void> {
    const { request, response, resource, path, query } = call;
    const options = readDeleteOptions(await this.#body(request), query);
    const selects = selection(resource, path.namespace, query);
    for (const { object } of [...resource.collection.items()]) {
      if (!selects(object)) continue;
      const { namespace, name } = object.metadata;
      // What an earlier deletion took along is gone already.
      if (!resource.collection.get(namespace, name)) continue;
      this.#parts.remover.delete({ resource, namespace, name }, options);
    }
    const { group, plural } = resource;
    sendJson(response, 200, success({ ...(group ? { group } : {}), kind: plural }));
  }

  #body(request: IncomingMessage): Promise<unknown> {
    return readObject(request, this.#parts.core.limits);
  }

  #sendWritten(call: Call, code: number, object: KubeObject, options: WriteOptions): void {
    const { response, resource, form } = call;
    warn(response, options.warnings);
    sendObject(response, resource, { object, text: JSON.stringify(object) }, { form, code });
  }
}

/** @throws Fault API_UNAUTHORIZED */
function authenticate(request: IncomingMessage, token: string | undefined): void {
  if (token === undefined) return;
  const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
  // Digests have one length, so the comparison tells nothing about the token's.
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (!timingSafeEqual(digest(given), digest(token))) throw faults.API_UNAUTHORIZED();
}

function watching(query: URLSearchParams): boolean {
  return /^(true|1)$/.test(query.get("watch") ?? "");
}

function method(request: IncomingMessage) {
  const path = (request.url ?? "").split("?")[0]?.slice(0, 200);
  return faults.API_METHOD({ method: request.method, path });
}

/** @throws Fault API_BAD_REQUEST for values that the API does not know */
function writeOptions(query: URLSearchParams): WriteOptions {
  const dryRun = query.getAll("dryRun");
  if (dryRun.some((value) => value !== "All" && value !== "")) {
    throw faults.API_BAD_REQUEST({ why: `dryRun: "${dryRun}" is not supported, only All` });
  }
  const validation = query.get("fieldValidation") || "Warn";
  if (validation !== "Strict" && validation !== "Warn" && validation !== "Ignore") {
    throw faults.API_BAD_REQUEST({ why: `fieldValidation: "${validation}" is none of Strict, Warn, Ignore` });
  }
  return { dryRun: dryRun.includes("All"), validation, warnings: [], withStatus: false };
}
