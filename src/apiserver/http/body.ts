// SPDX-License-Identifier: Apache-2.0
// Reads a request body within its bound, and only of a type that the request can have.
import type { IncomingMessage } from "node:http";
import { faults } from "../faults.ts";
import { parseJson } from "../json.ts";
import type { Limits } from "../limits.ts";
import { PROTOBUF, readProtobuf } from "./protobuf.ts";

/** The bare media type of the body, "" when the client names none. */
export function contentType(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

/** @throws Fault API_TOO_LARGE, as soon as the length is announced or reached */
async function readBytes(request: IncomingMessage, limit: number): Promise<Buffer> {
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > limit) throw faults.API_TOO_LARGE({ what: "request body", size: announced, limit });
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > limit) throw faults.API_TOO_LARGE({ what: "request body", size: `over ${limit}`, limit });
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

/**
 * The patch document of a request.
 * @throws Fault API_MEDIA_TYPE when its type is not among `types`; API_TOO_LARGE, API_BAD_REQUEST
 */
export async function readPatch(
  request: IncomingMessage,
  types: readonly string[],
  limits: Limits,
): Promise<unknown> {
  const type = contentType(request);
  if (!types.includes(type))
    throw faults.API_MEDIA_TYPE({ type: type || "of no type", accepted: types.join(", ") });
  return parseJson((await readBytes(request, limits.bodyBytes)).toString("utf8"), limits);
}

/**
 * The object in a request; undefined when there is no body. A body without a type is JSON.
 * @throws Fault API_MEDIA_TYPE, API_TOO_LARGE, API_BAD_REQUEST
 */
export async function readObject(request: IncomingMessage, limits: Limits): Promise<unknown> {
  const type = contentType(request);
  if (type !== "" && type !== "application/json" && type !== PROTOBUF) {
    throw faults.API_MEDIA_TYPE({ type, accepted: `application/json, ${PROTOBUF}` });
  }
  const bytes = await readBytes(request, limits.bodyBytes);
  if (bytes.length === 0) return undefined;
  return type === PROTOBUF ? readProtobuf(bytes) : parseJson(bytes.toString("utf8"), limits);
}
