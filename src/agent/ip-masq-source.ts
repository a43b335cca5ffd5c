// SPDX-License-Identifier: Apache-2.0
// Which ip-masq-agent document is in force: 1. the file of ip-masq-agent-config-path, if it is there; 2. ConfigMap
// kube-system/ip-masq-agent, key config; 3. none, which means the defaults. A document that cannot be used leaves the
// set before it in force, over a restart too, and is told.
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { IpMasqAgentSpec } from "../engine/masquerade/spec.ts";
import type { ConfigMapObject } from "../source/config-map.ts";
import { faults as sourceFaults } from "../source/faults.ts";
import {
  decodeIpMasqAgent,
  defaultIpMasqAgent,
  type Families,
  type IpMasqAgentDocument,
  type IpMasqAgentReading,
  MAX_DOCUMENT_BYTES,
} from "../source/ip-masq-agent.ts";
import { DocumentFile } from "./document-file.ts";

const KEY = "config";

/** What an update goes by besides the file. */
export interface IpMasqInputs {
  readonly configMap: ConfigMapObject | undefined;
  readonly families: Families;
  /** The document that the state folder holds; null: the defaults were in force; undefined: nothing is known. */
  readonly saved: IpMasqAgentDocument | null | undefined;
  /** The API server has not been read: `saved` stands in for the ConfigMap. */
  readonly fromState: boolean;
}

function mapDocument(map: ConfigMapObject | undefined): IpMasqAgentDocument | undefined {
  const text = map?.data.get(KEY);
  return map === undefined || text === undefined
    ? undefined
    : { origin: map.origin, path: `data.${KEY}`, text };
}

function read(document: IpMasqAgentDocument | null, families: Families): IpMasqAgentReading {
  return document === null
    ? { spec: defaultIpMasqAgent(families), faults: [] }
    : decodeIpMasqAgent(document, families);
}

/** The document and set in force. */
export class IpMasqSource {
  readonly #log: Log;
  readonly #file: DocumentFile;
  #spec: IpMasqAgentSpec | undefined;
  #document: IpMasqAgentDocument | null = null;
  #faults: readonly Fault[] = [];
  #refused = false;
  #generation = 0;
  /** What the last update, and what the set in force, were made from. */
  #basis = "";
  #basisInForce = "";

  /** `onFile` is called when the file may have changed, symlink swaps of mounted ConfigMaps included. */
  constructor(log: Log, onFile: () => void) {
    this.#log = log;
    this.#file = new DocumentFile(MAX_DOCUMENT_BYTES, onFile);
  }

  get faults(): readonly Fault[] {
    const unwatched = this.#file.fault;
    return unwatched === undefined ? this.#faults : [...this.#faults, unwatched];
  }

  /** Whether there is a newer document than the one in force, which cannot be used. */
  get refused(): boolean {
    return this.#refused;
  }

  /** Grows with every change of the document in force. */
  get generation(): number {
    return this.#generation;
  }

  /** The document in force, for the state folder and `status`; null: the defaults. */
  get document(): IpMasqAgentDocument | null {
    return this.#document;
  }

  /** The set in force for what is there now. */
  update(path: string, inputs: IpMasqInputs): IpMasqAgentSpec {
    let document: IpMasqAgentDocument | null;
    try {
      document = this.#find(path, inputs);
    } catch (thrown) {
      this.#basis = "";
      return this.#keep(Fault.from(thrown), inputs);
    }
    const { families, configMap } = inputs;
    const basis = JSON.stringify([document, families, configMap?.origin, configMap?.data.has(KEY)]);
    if (this.#spec !== undefined && basis === this.#basis) return this.#spec;
    this.#basis = basis;
    try {
      const reading = read(document, families);
      this.#refused = false;
      this.#tell([...reading.faults, ...this.#keyless(document, configMap)]);
      return this.#take(document, reading.spec, JSON.stringify([document, families]));
    } catch (thrown) {
      return this.#keep(Fault.from(thrown), inputs);
    }
  }

  /** @throws Fault FILE_UNUSABLE */
  #find(path: string, { configMap, saved, fromState }: IpMasqInputs): IpMasqAgentDocument | null {
    const text = this.#file.read(path);
    if (text !== undefined) return { origin: path, path: "", text };
    return mapDocument(configMap) ?? (fromState ? saved : undefined) ?? null;
  }

  /** A ConfigMap that does not say anything, where it should have. */
  #keyless(document: IpMasqAgentDocument | null, map: ConfigMapObject | undefined): Fault[] {
    if (document !== null || map === undefined) return [];
    const why = `no key ${KEY}; the defaults are in force`;
    return [sourceFaults.DOCUMENT_INVALID({ origin: map.origin, path: "data", why })];
  }

  #take(document: IpMasqAgentDocument | null, spec: IpMasqAgentSpec, basis: string): IpMasqAgentSpec {
    if (basis !== this.#basisInForce) this.#generation++;
    this.#basisInForce = basis;
    this.#document = document;
    this.#spec = spec;
    return spec;
  }

  /** Leaves in force what is; at the first reading, what was before the restart. */
  #keep(fault: Fault, { saved, families }: IpMasqInputs): IpMasqAgentSpec {
    this.#tell([fault]);
    this.#refused = true;
    if (this.#spec !== undefined) return this.#spec;
    try {
      return this.#take(saved ?? null, read(saved ?? null, families).spec, "");
    } catch {
      // Written by an agent that took it. The defaults are the set that masquerades least.
      return this.#take(null, defaultIpMasqAgent(families), "");
    }
  }

  #tell(found: readonly Fault[]): void {
    const known = new Set(this.#faults.map((fault) => fault.detail));
    for (const fault of found) {
      if (!known.has(fault.detail)) this.#log.warn({ error: fault.detail }, "ip-masq-agent document");
    }
    this.#faults = found;
  }

  close(): void {
    this.#file.close();
  }
}
