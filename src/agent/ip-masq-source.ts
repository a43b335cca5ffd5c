// SPDX-License-Identifier: Apache-2.0
// Which ip-masq-agent document is in force: 1. the file of ip-masq-agent-config-path, if it is there; 2. ConfigMap
// kube-system/ip-masq-agent, key config; 3. none, which means the defaults. A document that cannot be used leaves the
// set before it in force and is told.
import { existsSync, type FSWatcher, readFileSync, watch } from "node:fs";
import { dirname } from "node:path";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { IpMasqAgentSpec } from "../engine/masquerade/spec.ts";
import type { ConfigMapObject } from "../source/config-map.ts";
import {
  decodeIpMasqAgent,
  defaultIpMasqAgent,
  type Families,
  type IpMasqAgentDocument,
} from "../source/ip-masq-agent.ts";

const KEY = "config";

function readDocument(path: string): IpMasqAgentDocument | undefined {
  try {
    return { origin: path, path: "", text: readFileSync(path, "utf8") };
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw thrown;
  }
}

function mapDocument(map: ConfigMapObject | undefined): IpMasqAgentDocument | undefined {
  const text = map?.data.get(KEY);
  return map === undefined || text === undefined
    ? undefined
    : { origin: map.origin, path: `data.${KEY}`, text };
}

/** The document and set in force. */
export class IpMasqSource {
  readonly #log: Log;
  readonly #onFile: () => void;
  #watcher: FSWatcher | undefined;
  #watched = "";
  #spec: IpMasqAgentSpec | undefined;
  #document: IpMasqAgentDocument | null = null;
  #faults: readonly Fault[] = [];
  #generation = 0;
  #basis = "";

  /** `onFile` is called when the folder of the file changes, symlink swaps of mounted ConfigMaps included. */
  constructor(log: Log, onFile: () => void) {
    this.#log = log;
    this.#onFile = onFile;
  }

  get faults(): readonly Fault[] {
    return this.#faults;
  }

  get generation(): number {
    return this.#generation;
  }

  /** The document in force, for the state folder and `status`; null: the defaults. */
  get document(): IpMasqAgentDocument | null {
    return this.#document;
  }

  /** The set in force for what is there now. `saved` stands in for the ConfigMap until the API server has been read. */
  update(
    path: string,
    map: ConfigMapObject | undefined,
    options: { families: Families; saved?: IpMasqAgentDocument | null },
  ): IpMasqAgentSpec {
    this.#follow(path);
    let document: IpMasqAgentDocument | undefined;
    try {
      document = readDocument(path) ?? mapDocument(map) ?? options.saved ?? undefined;
      const basis = JSON.stringify([document ?? null, options.families]);
      if (this.#spec !== undefined && basis === this.#basis) return this.#spec;
      const reading =
        document === undefined
          ? { spec: defaultIpMasqAgent(options.families), faults: [] }
          : decodeIpMasqAgent(document, options.families);
      this.#basis = basis;
      this.#spec = reading.spec;
      this.#document = document ?? null;
      this.#generation++;
      this.#tell(reading.faults);
      return reading.spec;
    } catch (thrown) {
      this.#tell([Fault.from(thrown)]);
      // What was in force stays; at the very first reading that is the defaults, the set that masquerades least.
      this.#spec ??= defaultIpMasqAgent(options.families);
      this.#basis = "";
      return this.#spec;
    }
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = "";
  }

  #tell(found: readonly Fault[]): void {
    const known = new Set(this.#faults.map((fault) => fault.detail));
    for (const fault of found) {
      if (!known.has(fault.detail)) this.#log.warn({ error: fault.detail }, "ip-masq-agent document");
    }
    this.#faults = found;
  }

  /** Watches the folder of the file or, while that is missing, the nearest one above it. */
  #follow(path: string): void {
    let folder = dirname(path);
    while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
    if (this.#watched === folder) return;
    this.close();
    try {
      this.#watcher = watch(folder, { persistent: false }, () => this.#onFile());
      this.#watcher.on("error", () => this.close());
      this.#watched = folder;
    } catch {
      // The folder went away in between: asked again with the next update.
    }
  }
}
