// SPDX-License-Identifier: Apache-2.0
// The text of a file that others change while we read it. A file that has changed, come or gone is believed once it has
// been still for a moment, and what it held before stands until then: between the truncation and the last write of an
// editor, or between a deletion and the file that takes its place, no half document gets into force.
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { Fault } from "../base/fault.ts";
import { PathWatch } from "../kernel/path-watch.ts";
import { faults } from "./faults.ts";

/** How long a file must be as it is, and how long at most one waits for that. */
const STILL_MS = 100;
const LONGEST_MS = 500;

/** What a reading gave: text, no file, or why there is no text. */
type Content = { readonly text: string | undefined } | { readonly fault: Fault };

const MISSING = "missing";
const missing = (code: string | undefined): boolean => code === "ENOENT" || code === "ENOTDIR";
const codeOf = (thrown: unknown): string | undefined => (thrown as NodeJS.ErrnoException).code;

/** Differs whenever the file does. */
function signatureOf(stat: BigIntStats): string {
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(":");
}

function look(path: string): string {
  try {
    return signatureOf(statSync(path, { bigint: true }));
  } catch (thrown) {
    return missing(codeOf(thrown)) ? MISSING : `refused ${codeOf(thrown)}`;
  }
}

function readText(fd: number, path: string, maxBytes: number): string {
  const bytes = Buffer.alloc(maxBytes + 1);
  let length = 0;
  for (let read = 1; read > 0 && length < bytes.length; length += read) {
    read = readSync(fd, bytes, length, bytes.length - length, null);
  }
  if (length > maxBytes) throw faults.FILE_UNUSABLE({ path, why: `more than ${maxBytes} bytes` });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } catch (thrown) {
    throw faults.FILE_UNUSABLE({ path, why: "not text in UTF-8" }, thrown);
  }
}

function take(path: string, maxBytes: number): { signature: string; content: Content } {
  let fd: number | undefined;
  let signature = MISSING;
  try {
    // A FIFO without a writer would hold up the whole agent.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd, { bigint: true });
    signature = signatureOf(stat);
    if (!stat.isFile()) throw faults.FILE_UNUSABLE({ path, why: "not a regular file" });
    return { signature, content: { text: readText(fd, path, maxBytes) } };
  } catch (thrown) {
    const code = codeOf(thrown);
    if (missing(code)) return { signature: MISSING, content: { text: undefined } };
    if (signature === MISSING) signature = `refused ${code}`;
    const fault = thrown instanceof Fault ? thrown : faults.FILE_UNUSABLE({ path, why: code }, thrown);
    return { signature, content: { fault } };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** One file; its path may change from one reading to the next. */
export class DocumentFile {
  readonly #maxBytes: number;
  readonly #onChange: () => void;
  readonly #now: () => number;
  readonly #watch: PathWatch;
  #path: string | undefined;
  #taken: { readonly signature: string; readonly content: Content } = {
    signature: "",
    content: { text: undefined },
  };
  /** What is there now and not yet believed, and when it, and when the first such, was seen. */
  #seen: { readonly signature: string; readonly at: number; readonly first: number } | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * A file of more bytes is refused. `onChange` is called when another reading may give something else. `now`: a clock, in
   * ms.
   */
  constructor(maxBytes: number, onChange: () => void, now: () => number = () => performance.now()) {
    this.#maxBytes = maxBytes;
    this.#onChange = onChange;
    this.#now = now;
    this.#watch = new PathWatch(onChange);
  }

  /**
   * The text that is in force, undefined if there is no file or the path is empty.
   * @throws Fault FILE_UNUSABLE if what is there has no usable text
   */
  read(path: string): string | undefined {
    if (path === "") return undefined;
    this.#watch.follow(path);
    if (path !== this.#path || this.#isStill(look(path))) {
      const taken = take(path, this.#maxBytes);
      // It may have changed since it was found to be still: then it is not what has been.
      if (path !== this.#path || this.#isStill(taken.signature)) {
        this.#path = path;
        this.#seen = undefined;
        this.#taken = taken;
      }
    }
    const { content } = this.#taken;
    if ("fault" in content) throw content.fault;
    return content.text;
  }

  /** Why changes of the file are not told, if they are not: they are then found only when somebody reads again. */
  get fault(): Fault | undefined {
    const why = this.#watch.problem;
    return why === undefined ? undefined : faults.FILE_UNWATCHED({ path: this.#path, why });
  }

  /** Whether what is there is new and may be believed; if it is too early for that, asks again when it is not. */
  #isStill(signature: string): boolean {
    clearTimeout(this.#timer);
    if (signature === this.#taken.signature) {
      this.#seen = undefined;
      return false;
    }
    const now = this.#now();
    if (this.#seen?.signature !== signature) {
      this.#seen = { signature, at: now, first: this.#seen?.first ?? now };
    }
    const wait = Math.min(this.#seen.at + STILL_MS, this.#seen.first + LONGEST_MS) - now;
    if (wait <= 0) return true;
    this.#timer = setTimeout(this.#onChange, Math.ceil(wait));
    this.#timer.unref();
    return false;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watch.close();
  }
}
