// SPDX-License-Identifier: Apache-2.0
// What the agent keeps over its own death: the lock of its run directory, agent.json for tools, the addresses and ids
// given out, and the last configuration and facts that were good, so that a start without the API server goes on with
// them. Files are replaced by rename, so a crash leaves the old or the new one.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { Fault } from "../base/fault.ts";
import { type IpamState, readIpamState } from "../engine/ipam/engine.ts";
import { type FileLock, tryLock } from "../kernel/file-lock.ts";
import type { IpMasqAgentDocument } from "../source/ip-masq-agent.ts";
import type { NodeObject } from "../source/node.ts";
import { faults } from "./faults.ts";
import type { MasqueradeMode } from "./node-config.ts";
import type { AgentFile } from "./status.ts";

function replaceFile(path: string, value: unknown): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(value, null, 1)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** The JSON in a file, undefined if there is none. @throws Fault STATE_FILE */
function readFile<T>(path: string, check: (value: unknown) => T): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  try {
    return check(JSON.parse(text));
  } catch (thrown) {
    throw faults.STATE_FILE({ file: path, why: Fault.from(thrown).detail }, thrown);
  }
}

/** What has been given out on this node. */
export interface Allocations {
  readonly ipam: IpamState;
  readonly nextEndpointId: number;
}

const nodeSchema = z.object({
  name: z.string(),
  internalAddresses: z.array(z.string()),
  otherAddresses: z.array(z.string()),
  podCidrs: z.array(z.object({ address: z.string(), length: z.number() })),
  labels: z.record(z.string(), z.string()),
  ready: z.boolean(),
});

const lastGoodSchema = z.object({
  version: z.literal(1),
  /** Text values of options by name, with the path that each had. */
  config: z.record(z.string(), z.object({ text: z.string(), path: z.string() })),
  nodes: z.array(nodeSchema),
  /** The ip-masq-agent's document in force; null if there was none. */
  ipMasqAgent: z.object({ origin: z.string(), path: z.string(), text: z.string() }).nullable(),
});

/** The last configuration and facts that were good. */
export interface LastGood {
  readonly version: 1;
  readonly config: Readonly<Record<string, { readonly text: string; readonly path: string }>>;
  readonly nodes: readonly NodeObject[];
  readonly ipMasqAgent: IpMasqAgentDocument | null;
}

/** Run and state directories of one agent. */
export class StateFiles {
  readonly runDir: string;
  readonly stateDir: string;
  #lastGoodText = "";

  constructor(runDir: string, stateDir: string) {
    this.runDir = runDir;
    this.stateDir = stateDir;
    mkdirSync(runDir, { recursive: true, mode: 0o755 });
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  }

  /** @throws Fault AGENT_RUNNING */
  lock(): FileLock {
    const lock = tryLock(join(this.runDir, "agent.lock"));
    if (lock !== undefined) return lock;
    const pid = readFile(join(this.runDir, "agent.json"), (value) => (value as AgentFile).pid);
    throw faults.AGENT_RUNNING({ runDir: this.runDir, pid });
  }

  writeAgentFile(file: AgentFile): void {
    replaceFile(join(this.runDir, "agent.json"), file);
  }

  saveAllocations(allocations: Allocations): void {
    replaceFile(join(this.stateDir, "allocations.json"), allocations);
  }

  /** @throws Fault STATE_FILE */
  loadAllocations(): Allocations | undefined {
    return readFile(join(this.stateDir, "allocations.json"), (value) => ({
      ipam: readIpamState((value as { ipam: unknown }).ipam),
      nextEndpointId: z.int().parse((value as { nextEndpointId: unknown }).nextEndpointId),
    }));
  }

  /** Which mode of masquerading has left its mark on the node: iptables while there may be rules and sets of ours. */
  saveMasqueradeMode(mode: MasqueradeMode): void {
    replaceFile(join(this.stateDir, "masquerade-mode.json"), mode);
  }

  /** Undefined if nobody has saved one. */
  loadMasqueradeMode(): MasqueradeMode | undefined {
    const path = join(this.stateDir, "masquerade-mode.json");
    return readFile(path, (value) => (value === "iptables" || value === "bpf" ? value : undefined));
  }

  /** Writes only what differs from the last call. */
  saveLastGood(lastGood: LastGood): void {
    const text = JSON.stringify(lastGood);
    if (text === this.#lastGoodText) return;
    replaceFile(join(this.stateDir, "last-good.json"), lastGood);
    this.#lastGoodText = text;
  }

  /** @throws Fault STATE_FILE */
  loadLastGood(): LastGood | undefined {
    return readFile(join(this.stateDir, "last-good.json"), (value) => lastGoodSchema.parse(value));
  }
}
