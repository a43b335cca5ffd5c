// SPDX-License-Identifier: Apache-2.0
// One GET over a unix socket: the agents' and the lab's API servers answer JSON there. For commands that must start
// fast and need nothing else of a client library.
import { request } from "node:http";
import { faults } from "./faults.ts";

/**
 * The decoded body of a 200 answer.
 * @throws Fault SOCKET_SILENT if nobody answers in time, SOCKET_ANSWER for another status
 */
export function unixGet<T>(socketPath: string, path: string, timeoutMs = 5_000): Promise<T> {
  return new Promise((resolve, reject) => {
    const silent = (why: string): void => reject(faults.SOCKET_SILENT({ socketPath, why }));
    const call = request({ socketPath, path, timeout: timeoutMs, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("error", (error) => silent(error.message));
      response.on("end", () => {
        if (response.statusCode !== 200) {
          reject(faults.SOCKET_ANSWER({ path, status: response.statusCode, why: text.slice(0, 200) }));
          return;
        }
        try {
          resolve(JSON.parse(text));
        } catch {
          reject(faults.SOCKET_ANSWER({ path, status: 200, why: "the answer is not JSON" }));
        }
      });
    });
    call.on("timeout", () => call.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    call.on("error", (error: NodeJS.ErrnoException) => silent(error.code ?? error.message));
    call.end();
  });
}
