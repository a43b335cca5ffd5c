// SPDX-License-Identifier: Apache-2.0
// Writes answers: JSON bodies, Status objects of failures, objects and lists in the form the client asked for.
import type { ServerResponse } from "node:http";
import { objectAt, type Page, textAtVersion } from "../core/reader.ts";
import type { Resource } from "../registry.ts";
import { failure } from "../status.ts";
import type { Item } from "../store/collection.ts";
import { type Form, partialMetadata, table } from "../table/table.ts";

export function sendText(
  response: ServerResponse,
  code: number,
  text: string,
  type = "application/json",
): void {
  const body = Buffer.from(text);
  response.writeHead(code, {
    "Content-Type": type,
    "Content-Length": body.length,
    "Cache-Control": "no-cache, private",
  });
  response.end(body);
}

export function sendJson(response: ServerResponse, code: number, body: unknown, type?: string): void {
  sendText(response, code, `${JSON.stringify(body)}\n`, type);
}

/** Answers with the Status of an error; a response that has begun is cut off instead. */
export function sendFailure(response: ServerResponse, thrown: unknown): void {
  const status = failure(thrown);
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  if (status.code === 429) response.setHeader("Retry-After", "1");
  if (status.code === 401) response.setHeader("WWW-Authenticate", "Bearer");
  // What is left of a refused body must not be taken for the next request.
  if (!response.req.complete) response.setHeader("Connection", "close");
  sendJson(response, status.code, status);
}

/** Texts for the client to print, RFC 7234 5.5 code 299. */
export function warn(response: ServerResponse, texts: readonly string[]): void {
  const values = texts
    .slice(0, 20)
    .map((text) => `299 - "${text.replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&")}"`);
  if (values.length > 0) response.setHeader("Warning", values);
}

/** One object. `item` need not be stored (dry run). */
export function sendObject(
  response: ServerResponse,
  resource: Resource,
  item: Pick<Item, "object" | "text">,
  { form, code }: { form: Form; code: number },
): void {
  const object = objectAt(resource, item as Item);
  if (form.as === "Table") {
    const metadata = { resourceVersion: object.metadata.resourceVersion };
    sendJson(response, code, table([object], resource.columns, form, { metadata }));
  } else if (form.as === "PartialObjectMetadata") {
    sendJson(response, code, partialMetadata(object, form.version));
  } else sendText(response, code, textAtVersion(resource, item as Item));
}

export function sendPage(response: ServerResponse, resource: Resource, page: Page, form: Form): void {
  const { metadata } = page;
  if (form.as === "Table") {
    const objects = page.items.map((item) => objectAt(resource, item));
    sendJson(response, 200, table(objects, resource.columns, form, { metadata: { ...metadata } }));
  } else if (form.as === "PartialObjectMetadata") {
    const items = page.items.map((item) => partialMetadata(item.object, form.version));
    const apiVersion = `meta.k8s.io/${form.version}`;
    sendJson(response, 200, { kind: "PartialObjectMetadataList", apiVersion, metadata, items });
  } else {
    const head = JSON.stringify({ kind: resource.listKind, apiVersion: resource.apiVersion, metadata }).slice(
      0,
      -1,
    );
    // The stored texts are joined as they are: a list of 10000 objects is not serialised again for every client.
    sendText(
      response,
      200,
      `${head},"items":[${page.items.map((i) => textAtVersion(resource, i)).join(",")}]}\n`,
    );
  }
}
