// SPDX-License-Identifier: Apache-2.0
// What a call of the plugin prints and how it ends, from the runtime's call and the agent's answer. The agent does the
// work; here is only what must hold while it is down:
//   1. VERSION needs no agent.
//   2. DEL is queued for the agent's next start and succeeds.
//   3. ADD, CHECK and GC wait for the agent as long as a restart takes, then fail with "try again later".
//   4. STATUS fails at once with "not available".
import { appendFileSync } from "node:fs";
import { discardDelete, queueDelete } from "../api/cni-deletes.ts";
import { CNI_VERSIONS, CniCode } from "../api/cni-protocol.ts";
import { type AgentAnswer, AgentSilent, AgentUnreachable, postToAgent } from "./agent-client.ts";
import { answerVersion, type CniCall, readCall } from "./call.ts";
import { CniError } from "./errors.ts";

/** How long a call waits. Tests shorten it. */
export interface PluginLimits {
  /** For an agent that is down, from the start of the process. */
  readonly connectMs: number;
  /** For the answer of an agent that took the request. */
  readonly answerMs: number;
}

/** ADD must fail within 5 s when the agent is down; an agent restarts in under 2 s. */
const LIMITS: PluginLimits = { connectMs: 4000, answerMs: 20_000 };
const RETRY_MS = 100;

/** What the process prints on standard output and exits with. */
export interface PluginOutcome {
  readonly stdout: string;
  readonly exitCode: number;
}

function agentDown(call: CniCall, why: string): CniError {
  const code = call.command === "STATUS" ? CniCode.NOT_AVAILABLE : CniCode.TRY_AGAIN_LATER;
  return new CniError(
    code,
    "the hookline agent does not answer on this node; start it (hookline agent) or look into its log",
    `${call.agentSocket}: ${why}`,
  );
}

async function ask(call: CniCall, limits: PluginLimits, patient: boolean): Promise<AgentAnswer> {
  const deadline = performance.now() + limits.connectMs;
  const path = `/v1/cni/${call.command.toLowerCase()}`;
  for (;;) {
    try {
      return await postToAgent(call.agentSocket, path, call.request, limits.answerMs);
    } catch (thrown) {
      // Every command is idempotent, so a request that was cut off is simply sent again.
      if (!(thrown instanceof AgentUnreachable)) throw thrown;
      if (!patient || performance.now() + RETRY_MS > deadline) throw thrown;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function unreachable(thrown: unknown): thrown is Error {
  return thrown instanceof AgentUnreachable || thrown instanceof AgentSilent;
}

/** The second attempt closes the gap in which an agent has read its queue and listens since. */
async function deleteLater(call: CniCall, limits: PluginLimits): Promise<AgentAnswer> {
  try {
    queueDelete(call.runDir, call.request);
  } catch (thrown) {
    throw new CniError(CniCode.IO_FAILURE, "cannot store the DEL for the agent", (thrown as Error).message);
  }
  try {
    const answer = await ask(call, limits, false);
    if (answer.status < 400) discardDelete(call.runDir, call.request);
  } catch (thrown) {
    if (!unreachable(thrown)) throw thrown;
  }
  return { status: 200, body: undefined };
}

async function answerOf(call: CniCall, limits: PluginLimits): Promise<AgentAnswer> {
  const patient = call.command !== "DEL" && call.command !== "STATUS";
  try {
    return await ask(call, limits, patient);
  } catch (thrown) {
    if (!unreachable(thrown)) throw new CniError(CniCode.IO_FAILURE, (thrown as Error).message);
    if (call.command === "DEL") return deleteLater(call, { ...limits, answerMs: 1000 });
    throw agentDown(call, thrown.message);
  }
}

async function perform(call: CniCall, limits: PluginLimits): Promise<string> {
  if (call.command === "VERSION") {
    return JSON.stringify({ cniVersion: call.cniVersion, supportedVersions: CNI_VERSIONS });
  }
  const { status, body } = await answerOf(call, limits);
  if (status < 400) return call.command === "ADD" ? JSON.stringify(body) : "";
  const { code, msg, details } = (body ?? {}) as { code?: number; msg?: string; details?: string };
  if (typeof code === "number" && typeof msg === "string") throw new CniError(code, msg, details);
  throw new CniError(CniCode.IO_FAILURE, `the agent answered with HTTP status ${status}`);
}

function log(call: CniCall | undefined, startedMs: number, problem?: CniError): void {
  if (!call?.logFile) return;
  const line = {
    time: new Date().toISOString(),
    command: call.command,
    containerId: call.request.containerId,
    ifName: call.request.ifName,
    ms: Math.round(performance.now() - startedMs),
    ...(problem ? { error: problem.body } : {}),
  };
  try {
    appendFileSync(call.logFile, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  } catch {
    // A log that cannot be written must not cost a pod its network.
  }
}

/** One call of the plugin: never throws, every failure is a CNI error object. */
export async function runPlugin(
  env: Readonly<Record<string, string | undefined>>,
  stdin: string,
  limits: PluginLimits = LIMITS,
): Promise<PluginOutcome> {
  const startedMs = performance.now();
  let call: CniCall | undefined;
  try {
    call = readCall(env, stdin);
    const stdout = await perform(call, limits);
    log(call, startedMs);
    return { stdout, exitCode: 0 };
  } catch (thrown) {
    const error =
      thrown instanceof CniError
        ? thrown
        : new CniError(CniCode.IO_FAILURE, "unexpected failure", String(thrown));
    log(call, startedMs, error);
    return { stdout: JSON.stringify({ cniVersion: answerVersion(stdin), ...error.body }), exitCode: 1 };
  }
}
