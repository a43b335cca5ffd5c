// SPDX-License-Identifier: Apache-2.0
// The other side of the agent's socket, for the CLI, the lab and tests.
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createInterface } from "node:readline";
import { Fault } from "../base/fault.ts";
import type { MonitorItem } from "../observe/fan-out.ts";
import { faults } from "./faults.ts";

export interface AgentCall {
  readonly socketPath: string;
  readonly path: string;
  /** Present: POST it as JSON. */
  readonly body?: unknown;
  /** Default 10,000. */
  readonly timeoutMs?: number;
}

function open(call: AgentCall, signal?: AbortSignal): Promise<IncomingMessage> {
  const { socketPath, path, body } = call;
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const method = body === undefined ? "GET" : "POST";
    const request = httpRequest(
      { socketPath, path, method, headers, ...(signal ? { signal } : {}) },
      resolve,
    );
    request.on("error", (thrown) =>
      reject(faults.AGENT_UNREACHABLE({ socket: socketPath, why: Fault.from(thrown).detail }, thrown)),
    );
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Status and JSON of an answer, whatever the status. @throws Fault AGENT_UNREACHABLE */
export async function exchange(call: AgentCall): Promise<{ status: number; body: unknown }> {
  const response = await open(call, AbortSignal.timeout(call.timeoutMs ?? 10_000));
  const answer = await text(response);
  try {
    return { status: response.statusCode ?? 0, body: JSON.parse(answer) };
  } catch (thrown) {
    throw faults.AGENT_REFUSED({ path: call.path, why: "the answer is not JSON" }, thrown);
  }
}

/** The answer to a question. @throws Fault AGENT_UNREACHABLE, AGENT_REFUSED */
export async function ask<T>(call: AgentCall): Promise<T> {
  const { status, body } = await exchange(call);
  if (status >= 400) {
    const why = (body as { msg?: unknown } | null)?.msg ?? `status ${status}`;
    throw faults.AGENT_REFUSED({ path: call.path, why });
  }
  return body as T;
}

/** Follows flows until `signal` or the agent ends. @throws Fault AGENT_UNREACHABLE if none answers at the beginning */
export async function* followFlows(socketPath: string, signal?: AbortSignal): AsyncGenerator<MonitorItem> {
  const response = await open({ socketPath, path: "/v1/monitor" }, signal);
  try {
    for await (const line of createInterface({ input: response })) yield JSON.parse(line) as MonitorItem;
  } catch {
    // Broken off, perhaps in the middle of a line: `signal`, or the agent has ended, in whichever way.
  } finally {
    response.destroy();
  }
}
