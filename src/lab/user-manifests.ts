// SPDX-License-Identifier: Apache-2.0
// A user's folder of manifests beside the lab's own: its files appear in the folder that the API server follows, as
// symbolic links, so that edits, new files and removed files are followed where the user makes them.
import { readdirSync, readlinkSync, symlinkSync, unlinkSync, watch } from "node:fs";
import { join } from "node:path";

const PREFIX = "user-";
const EXTENSION = /\.(ya?ml|json)$/;
const RESCAN_MS = 2_000;

function userFiles(folder: string): Map<string, string> {
  const names = readdirSync(folder).filter((name) => EXTENSION.test(name) && !name.startsWith("."));
  return new Map(names.map((name) => [`${PREFIX}${name}`, join(folder, name)]));
}

/** Makes the links what the user's folder says. @throws the errors of node:fs if that folder cannot be read */
export function linkUserManifests(userFolder: string, labFolder: string): void {
  const wanted = userFiles(userFolder);
  for (const name of readdirSync(labFolder).filter((file) => file.startsWith(PREFIX))) {
    const path = join(labFolder, name);
    if (wanted.get(name) === readlinkSync(path)) wanted.delete(name);
    else unlinkSync(path);
  }
  for (const [name, target] of wanted) symlinkSync(target, join(labFolder, name));
}

/** Keeps the links so while the process lives. A folder that is gone for a while leaves what it had said in force. */
export function followUserManifests(userFolder: string, labFolder: string): void {
  const sync = (): void => {
    try {
      linkUserManifests(userFolder, labFolder);
    } catch {
      // Tried again at the next change or in two seconds.
    }
  };
  try {
    watch(userFolder, { persistent: false }, sync).on("error", () => undefined);
  } catch {
    // No notifications (inotify limits): the timer finds changes all the same.
  }
  setInterval(sync, RESCAN_MS).unref();
}
