// SPDX-License-Identifier: Apache-2.0
// Plain HTTP requests over the API server's unix socket, for what the client library would not send.
import { request } from "node:http";

export interface RawAnswer {
  code: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  /** The body as JSON, undefined when it is none. */
  json: Record<string, unknown> | undefined;
}

/** Sends one request on a connection of its own; bodies that are no text are sent as JSON. */
export function rawRequest(
  socketPath: string,
  method: string,
  path: string,
  options: { body?: unknown; type?: string | undefined; headers?: Record<string, string> } = {},
): Promise<RawAnswer> {
  const { body } = options;
  const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  const type = "type" in options ? options.type : "application/json";
  const headers = {
    ...(text === undefined || options.headers?.["transfer-encoding"]
      ? {}
      : { "content-length": Buffer.byteLength(text) }),
    ...(type === undefined || text === undefined ? {} : { "content-type": type }),
    ...options.headers,
  };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path, headers, agent: false }, (response) => {
      let answer = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => {
        answer += chunk;
      });
      response.on("error", reject);
      response.on("end", () => {
        let json: RawAnswer["json"];
        try {
          json = JSON.parse(answer);
        } catch {
          json = undefined;
        }
        resolve({ code: response.statusCode ?? 0, headers: response.headers, text: answer, json });
      });
    });
    let answered = false;
    sent.on("response", () => {
      answered = true;
    });
    // A server that refuses a body closes before all of it is sent; its answer counts.
    sent.on("error", (error) => {
      if (!answered) reject(error);
    });
    sent.end(text);
  });
}
