// SPDX-License-Identifier: Apache-2.0
// Questions to the agent's socket, with errors that say what to do.
import { Fault } from "../base/fault.ts";
import { faults } from "./faults.ts";
import type { Target } from "./target.ts";

/** The error for a socket that nobody answers on. Others stay as they are. */
export function explainSilence(thrown: unknown, target: Target): Fault {
  const fault = Fault.from(thrown);
  if (fault.code !== "AGENT_UNREACHABLE") return fault;
  return faults.NOT_RUNNING({ socket: target.socket, why: fault.context.why }, thrown);
}

/**
 * What the agent answers to GET `path`.
 * @throws Fault NOT_RUNNING; AGENT_REFUSED
 */
export async function askAgent<T>(target: Target, path: string): Promise<T> {
  const { ask } = await import("../api/client.ts");
  try {
    return await ask<T>({ socketPath: target.socket, path });
  } catch (thrown) {
    throw explainSilence(thrown, target);
  }
}
