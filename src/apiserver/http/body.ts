// SPDX-License-Identifier: Apache-2.0
// Reads a request body within its bound, and only of a type that the request can have.
import type { IncomingMessage } from "node:http";
import { faults } from "../faults.ts";
import { parseJson } from "../json.ts";
import type { Limits } from "../limits.ts";

/** The bare media type of the body, "" when the client names none. */
export function contentType(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

/** @throws Fault API_TOO_LARGE, as soon as the length is announced or reached */
async function readText(request: IncomingMessage, limit: number): Promise<string> {
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > limit) throw faults.API_TOO_LARGE({ what: "request body", size: announced, limit });
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > limit) throw faults.API_TOO_LARGE({ what: "request body", size: `over ${limit}`, limit });
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * The JSON document of a request.
 * @throws Fault API_MEDIA_TYPE when its type is not among `types`; API_TOO_LARGE, API_BAD_REQUEST
 */
export async function readBody(
  request: IncomingMessage,
  types: readonly string[],
  limits: Limits,
): Promise<unknown> {
  const type = contentType(request);
  if (!types.includes(type)) {
    throw faults.API_MEDIA_TYPE({ type: type || "of no type", accepted: types.join(", ") });
  }
  return parseJson(await readText(request, limits.bodyBytes), limits);
}

/** As readBody, but a request without a body gives undefined, whatever its type. */
export async function readOptionalBody(request: IncomingMessage, limits: Limits): Promise<unknown> {
  const text = await readText(request, limits.bodyBytes);
  if (text.trim() === "") return undefined;
  const type = contentType(request);
  if (type !== "" && type !== "application/json") {
    throw faults.API_MEDIA_TYPE({ type, accepted: "application/json" });
  }
  return parseJson(text, limits);
}
