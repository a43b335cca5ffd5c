// SPDX-License-Identifier: Apache-2.0
// Questions to the agent's socket, with errors that say what to do.
import { Fault } from "../base/fault.ts";
import { unixGet } from "../lab/unix-get.ts";
import { faults } from "./faults.ts";
import type { Target } from "./target.ts";

/**
 * What the agent answers to GET `path`.
 * @throws Fault NOT_RUNNING, AGENT_ANSWER
 */
export async function askAgent<T>(target: Target, path: string): Promise<T> {
  try {
    return await unixGet<T>(target.socket, path);
  } catch (thrown) {
    const fault = Fault.from(thrown);
    const { why } = fault.context;
    if (fault.code === "SOCKET_SILENT") throw faults.NOT_RUNNING({ socket: target.socket, why }, thrown);
    if (fault.code === "SOCKET_ANSWER") throw faults.AGENT_ANSWER({ path, why: fault.detail }, thrown);
    throw thrown;
  }
}
