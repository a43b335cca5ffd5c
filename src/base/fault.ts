// SPDX-License-Identifier: Apache-2.0
// The one error class. Each layer declares its codes in one table (faults.ts of the folder) with defineFaults; a fault
// carries its code, the values that explain it and the cause, and knows whether a retry can help and how a process ends.

/** One row of a layer's table: how a code reads and what callers do with it. */
export interface FaultKind {
  /** Builds the message, without the code; `c` holds what the thrower passed. */
  text: (c: Record<string, unknown>) => string;
  /** Whether the same call may succeed later by itself. Default false. */
  retriable?: boolean;
  /** Exit status of a command that ends with it. Default 1. */
  exitCode?: number;
}

/** An error with a code from a layer's table. The message begins with the code: `[ADDRESS_SYNTAX] ...`. */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: string;
  readonly context: Readonly<Record<string, unknown>>;
  readonly retriable: boolean;
  readonly exitCode: number;
  /** The message without its code, for people. */
  readonly detail: string;

  constructor(
    code: string,
    detail: string,
    options: {
      cause?: unknown;
      context?: Record<string, unknown>;
      retriable?: boolean;
      exitCode?: number;
    } = {},
  ) {
    super(`[${code}] ${detail}`, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.context = options.context ?? {};
    this.retriable = options.retriable ?? false;
    this.exitCode = options.exitCode ?? 1;
  }

  /** A fault as it is; an Error keeps its message and becomes the cause; anything else is printed. */
  static from(thrown: unknown, code = "UNEXPECTED"): Fault {
    if (thrown instanceof Fault) return thrown;
    if (thrown instanceof Error) return new Fault(code, thrown.message, { cause: thrown });
    return new Fault(code, String(thrown));
  }
}

/**
 * Turns a table of codes into constructors, one per code, so that a code cannot be misspelt:
 * `const faults = defineFaults({ ADDRESS_SYNTAX: { text: (c) => ... } }); throw faults.ADDRESS_SYNTAX({ text })`.
 */
export function defineFaults<T extends Record<string, FaultKind>>(
  table: T,
): { [K in keyof T]: (context?: Record<string, unknown>, cause?: unknown) => Fault } {
  const make =
    (code: string, kind: FaultKind) =>
    (context: Record<string, unknown> = {}, cause?: unknown) =>
      new Fault(code, kind.text(context), {
        cause,
        context,
        retriable: kind.retriable ?? false,
        exitCode: kind.exitCode ?? 1,
      });
  return Object.fromEntries(Object.entries(table).map(([code, kind]) => [code, make(code, kind)])) as never;
}
