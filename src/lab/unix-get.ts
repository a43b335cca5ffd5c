// SPDX-License-Identifier: Apache-2.0
// Questions to the sockets of a lab, its API server's and its agents', for commands that must start fast.
import { exchange } from "../api/client.ts";
import { Fault } from "../base/fault.ts";
import { faults } from "./faults.ts";

/**
 * The decoded body of a 200 answer.
 * @throws Fault SOCKET_SILENT if nobody answers, SOCKET_ANSWER for another status
 */
export async function unixGet<T>(socketPath: string, path: string): Promise<T> {
  let answer: Awaited<ReturnType<typeof exchange>>;
  try {
    answer = await exchange({ socketPath, path, timeoutMs: 5_000 });
  } catch (thrown) {
    const { context, detail } = Fault.from(thrown);
    throw faults.SOCKET_SILENT({ socketPath, why: context.why ?? detail }, thrown);
  }
  if (answer.status === 200) return answer.body as T;
  const why = JSON.stringify(answer.body).slice(0, 200);
  throw faults.SOCKET_ANSWER({ path, status: answer.status, why });
}
