// SPDX-License-Identifier: Apache-2.0
// The plugin's one error: what runtimes get as a CNI error object on standard output, with exit status 1.
import type { CniErrorBody } from "../api/cni-protocol.ts";

/** An error with a code of the CNI specification (or of the agent, from 100). */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details = "") {
    super(message);
    this.code = code;
    this.details = details;
  }

  get body(): CniErrorBody {
    return { code: this.code, msg: this.message, ...(this.details ? { details: this.details } : {}) };
  }
}
