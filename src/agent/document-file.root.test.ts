// SPDX-License-Identifier: Apache-2.0
// A file on a machine whose inotify limits are reached, as they often are on nodes: played in a user namespace, whose
// limits bind nobody else.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), "hlt-document-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

test("a file that cannot be watched, because inotify has no more to give, is told and read all the same", () => {
  const path = join(dir, "unwatched");
  writeFileSync(path, "text");
  const script = `
    import { DocumentFile } from ${JSON.stringify(join(import.meta.dirname, "document-file.ts"))};
    const file = new DocumentFile(64, () => undefined);
    console.log(file.read(${JSON.stringify(path)}), file.fault?.detail ?? "watched");
    file.close();`;
  const told = (limits: string): string => {
    const node = `exec ${process.execPath} --input-type=module-typescript -e "$0"`;
    const argv = ["--user", "--map-root-user", "sh", "-c", `${limits} ${node}`, script];
    return execFileSync("unshare", argv, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  };
  assert.equal(told(""), "text watched");
  assert.match(
    told("echo 0 > /proc/sys/user/max_inotify_instances;"),
    new RegExp(`^text ${path}: cannot be watched \\(EMFILE\\), so changes are found every few seconds`),
  );
  assert.match(told("echo 1 > /proc/sys/user/max_inotify_watches;"), /cannot be watched \(ENOSPC\)/);
});
