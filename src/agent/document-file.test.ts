// SPDX-License-Identifier: Apache-2.0
// A file that is changed while it is read: what gets into force is always whole, and what cannot be read is told.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { waitFor } from "../base/async.ts";
import { DocumentFile } from "./document-file.ts";

let dir: string;
let path: string;
/** Everything that was ever in force, in order, each once; undefined: no file. */
let history: (string | undefined)[];
let file: DocumentFile;
/** The reader's clock, in ms: however long this process has to wait for a processor, it is the test that says what time it is. */
let clock: number;
/** Happens when the reader asks what time it is. */
let atClock: (() => void) | undefined;

const note = (): void => {
  const text = file.read(path);
  if (history.length === 0 || history.at(-1) !== text) history.push(text);
};
/** Readings at once and later, as other changes lead to them; too soon to believe what has changed before. */
const lookTwice = (): void => {
  note();
  clock += 90;
  note();
};
/** Lets time pass until it is so. */
const until = (what: string, holds: () => boolean): Promise<boolean> =>
  waitFor(what, () => {
    clock += 20;
    return holds();
  });
const reached = (text: string | undefined): Promise<boolean> =>
  until(`${text} to be in force`, () => history.at(-1) === text);

before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-document-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a row over a file that holds `one`. */
function row(name: string, body: () => Promise<void>): void {
  test(name, async () => {
    path = join(mkdtempSync(join(dir, "row-")), "document");
    writeFileSync(path, "one");
    history = [];
    clock = 0;
    file = new DocumentFile(64, note, () => {
      atClock?.();
      return clock;
    });
    note();
    try {
      await body();
    } finally {
      file.close();
    }
  });
}

row("a file that is written in place in pieces is believed when it is whole", async () => {
  writeFileSync(path, "");
  for (const piece of ["t", "w", "o"]) {
    lookTwice();
    appendFileSync(path, piece);
  }
  await reached("two");
  assert.deepEqual(history, ["one", "two"]);
});

row("a file that is deleted and made again was never away", async () => {
  rmSync(path);
  lookTwice();
  writeFileSync(path, "two");
  await reached("two");
  assert.deepEqual(history, ["one", "two"]);
});

row(
  "a file that changes between the last look and the reading is not believed before it is still",
  async () => {
    writeFileSync(path, "two");
    note();
    clock += 100;
    // Our clock is asked after the look and before the reading.
    atClock = () => {
      atClock = undefined;
      writeFileSync(path, "");
    };
    note();
    assert.equal(atClock, undefined, "it was emptied in between");
    writeFileSync(path, "three");
    await reached("three");
    assert.deepEqual(history, ["one", "three"]);
  },
);

row("a file that goes is gone, and with its folder too", async () => {
  rmSync(path);
  await reached(undefined);
  writeFileSync(path, "two");
  await reached("two");
  rmSync(join(path, ".."), { recursive: true });
  await reached(undefined);
  mkdirSync(join(path, ".."));
  writeFileSync(path, "three");
  await reached("three");
  assert.deepEqual(history, ["one", undefined, "two", undefined, "three"]);
});

row("a file that never comes to rest is read all the same", async () => {
  const writer = setInterval(() => appendFileSync(path, "+"), 20);
  await until("a reading", () => history.length > 1);
  clearInterval(writer);
});

row("of two files renamed into place one after the other the last is in force", async () => {
  for (const text of ["two", "six"]) {
    writeFileSync(`${path}.draft`, text);
    renameSync(`${path}.draft`, path);
  }
  await reached("six");
  assert.deepEqual(history, ["one", "six"]);
});

test("what has no text is refused with its path, and a FIFO holds nobody up", () => {
  const at = (name: string): string => join(dir, name);
  mkdirSync(at("folder"));
  execFileSync("mkfifo", [at("fifo")]);
  writeFileSync(at("latin1"), Buffer.from([0x61, 0xe9]));
  writeFileSync(at("long"), "x".repeat(65));
  writeFileSync(at("fits"), "x".repeat(64));
  const reader = new DocumentFile(64, () => undefined);
  const refusal = (name: string): string => {
    try {
      reader.read(at(name));
      return "";
    } catch (thrown) {
      return (thrown as { detail: string }).detail.replace(at(name), name);
    }
  };
  assert.deepEqual(["folder", "fifo", "latin1", "long", "fits"].map(refusal), [
    "folder: not a regular file",
    "fifo: not a regular file",
    "latin1: not text in UTF-8",
    "long: more than 64 bytes",
    "",
  ]);
  assert.equal(reader.read(""), undefined);
  reader.close();
});
