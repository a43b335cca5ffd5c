// SPDX-License-Identifier: Apache-2.0
// A reporter for node:test that writes one JSON line per finished test, for the runner to count.

/** One finished test; suites are left out, their tests are there. */
export interface TestResult {
  name: string;
  ok: boolean;
  /** The reason; an empty text if none was given. */
  skipped?: string;
  /** Why it failed: the message of what it threw. */
  error?: string;
  /** It never ran: what it belongs to has failed. */
  cancelled?: boolean;
  seconds: number;
}

/** The part of node:test's events that counts. */
interface TestEvent {
  type: string;
  data: {
    name: string;
    skip?: string | boolean;
    details?: { type?: string; duration_ms?: number; error?: NodeTestError };
  };
}

/** node:test wraps what a test threw. */
interface NodeTestError extends Error {
  failureType?: string;
}

function messageOf(error: NodeTestError | undefined): string {
  const thrown = error?.cause ?? error;
  return thrown instanceof Error ? thrown.message : `${thrown}`;
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const failure = data.details?.error?.failureType;
    // A suite is no test, but its set-up can fail like one.
    if (data.details?.type === "suite" && failure !== "hookFailed") continue;
    const result: TestResult = {
      name: data.name,
      ok: type === "test:pass",
      seconds: (data.details?.duration_ms ?? 0) / 1000,
    };
    if (data.skip !== undefined && data.skip !== false) result.skipped = data.skip === true ? "" : data.skip;
    if (failure === "cancelledByParent") result.cancelled = true;
    if (!result.ok) result.error = messageOf(data.details?.error);
    yield `${JSON.stringify(result)}\n`;
  }
}
