// SPDX-License-Identifier: Apache-2.0
// The verifier's log made readable: of up to millions of lines, the one that says why, and the source line before it.
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface VerifierVerdict {
  /** Why: the last line that is not statistics. */
  readonly line: string;
  /** The line of C that it is about, if the object carries line information. */
  readonly source: string | undefined;
}

/** What the verifier prints after its verdict (kernel/bpf/verifier.c, print_verification_stats). */
const STATISTICS =
  /^(processed \d+ insns|verification time|stack depth|mark_precise|max_states|insns_processed|$)/;

/** Finds the verdict in the text of a log. */
export function readVerifierLog(log: string): VerifierVerdict {
  const lines = log.trimEnd().split("\n");
  let at = lines.length - 1;
  while (at > 0 && STATISTICS.test(lines[at]?.trim() ?? "")) at--;
  const line = lines[at]?.trim() || "no reason given";
  const comment = lines.slice(0, at).findLast((text) => text.startsWith("; "));
  return { line, source: comment?.slice(2).trim() };
}

/** The text in a log buffer, up to its NUL. */
export function logText(buffer: Uint8Array): string {
  const end = buffer.indexOf(0);
  return Buffer.from(buffer.subarray(0, end < 0 ? buffer.length : end)).toString("utf8");
}

/** Writes a log into a new folder below `folder`, so that nobody can have prepared a link there; gives its path. */
export function saveVerifierLog(folder: string, program: string, log: string): string {
  const file = join(mkdtempSync(join(folder, "hookline-verifier-")), `${program}.log`);
  writeFileSync(file, log, { mode: 0o600 });
  return file;
}
