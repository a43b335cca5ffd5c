// SPDX-License-Identifier: Apache-2.0
// Makes the node's netfilter hold a plan, or nothing of ours: sets first, then each family's rules in one transaction.
// What was written is read back, and looked at again from time to time: whoever flushed it is corrected. What fails stays
// pending, is tried again with growing pauses, and is shown.

import type { Family } from "../../base/addr.ts";
import { backoffMs, SerialQueue } from "../../base/async.ts";
import { Fault } from "../../base/fault.ts";
import {
  countSets,
  destroySets,
  findChain,
  findXtables,
  listChain,
  restoreRules,
  restoreSets,
  type Xtables,
} from "../../kernel/xtables.ts";
import type { ReconcileStatus } from "../../maps/reconcile.ts";
import { faults } from "./faults.ts";
import { CHAINS, type ChainPlan, FAMILIES, type NetfilterPlan, SET_NAMES } from "./netfilter-plan.ts";
import { type ChainState, jumpsTo, rulesText, setText } from "./netfilter-text.ts";

/** What is written by itself: a program's input, with its own failures. */
type Part = "ipset" | "iptables" | "ip6tables";

const RULES: Readonly<Record<Family, Part>> = { 4: "iptables", 6: "ip6tables" };
const PARTS: readonly Part[] = ["ipset", "iptables", "ip6tables"];
const NOTHING: NetfilterPlan = { sets: [], chains: { 4: [], 6: [] } };
/** What kubelet leaves in the kind that it uses. */
const KUBELET_CHAINS = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

interface PartState {
  desired: number;
  failure: Fault | undefined;
  errors: number;
  lastWrites: number;
  lastSyncMs: number;
  /** What is there is as the present plan has it, as far as is known. */
  done: boolean;
}

export interface NetfilterOptions {
  /** Called when something has been written, or has failed, that nobody waits for. */
  readonly onChange?: () => void;
  /** Where to look for the programs instead of the system's folders. */
  readonly folders?: readonly string[];
  /** First and longest pause before another try. Default 500 ms and 30 s. */
  readonly retryMs?: { first: number; longest: number };
}

/** Our part of one namespace's netfilter. Methods never reject: failures are in the status. */
export class Netfilter {
  readonly #options: NetfilterOptions;
  readonly #queue = new SerialQueue();
  readonly #parts: Record<Part, PartState>;
  #kinds: Xtables[] | undefined;
  #chosen: Xtables | undefined;
  #plan = NOTHING;
  /** The plan that is being written, or was last: another may be asked for meanwhile. */
  #writing = NOTHING;
  #planText = "";
  #generation = 0;
  /** Names and contents of sets, and our chains as iptables printed them, as they were when they had been written. */
  readonly #written = new Map<string, string>();
  #attempt = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: NetfilterOptions = {}) {
    this.#options = options;
    const part = (): PartState => ({
      desired: 0,
      failure: undefined,
      errors: 0,
      lastWrites: 0,
      lastSyncMs: 0,
      done: false,
    });
    this.#parts = { ipset: part(), iptables: part(), ip6tables: part() };
  }

  /** Whether all that is desired stands. */
  get inForce(): boolean {
    return PARTS.every((part) => this.#parts[part].done);
  }

  /** What could not be written; undefined if nothing. */
  get fault(): Fault | undefined {
    return PARTS.map((part) => this.#parts[part].failure).find((fault) => fault !== undefined);
  }

  /** Makes the plan stand; resolves when that has been tried. */
  setDesired(plan: NetfilterPlan): Promise<void> {
    const text = JSON.stringify(plan);
    if (this.#planText === text && this.inForce) return Promise.resolve();
    this.#plan = plan;
    this.#planText = text;
    this.#generation++;
    this.#attempt = 0;
    // What stood for the plan before stands for this one only when it has been written, be it by a later try.
    for (const part of PARTS) this.#parts[part].done = false;
    return this.#queue.run(() => this.#sync());
  }

  /** Takes away all that is ours, whoever wrote it; resolves when that has been tried. */
  remove(): Promise<void> {
    return this.setDesired(NOTHING);
  }

  /** Looks whether what was written is still there, and writes it again if not. */
  check(): Promise<void> {
    return this.#queue.run(async () => {
      if (!this.inForce || this.#plan === NOTHING) return;
      try {
        if (await this.#stands()) return;
      } catch {
        // What cannot be read is written anew, and if that fails too it is told.
      }
      this.#written.clear();
      await this.#sync();
      this.#options.onChange?.();
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #installed(): Promise<Xtables[]> {
    this.#kinds ??= await findXtables(this.#options.folders);
    return this.#kinds;
  }

  /** The kind that has our rules already, else kubelet's, else the system's choice if it works, else the other. */
  async #choose(): Promise<Xtables> {
    const kinds = await this.#installed();
    const has = async (tools: Xtables, table: string, chains: readonly string[]): Promise<boolean> => {
      for (const chain of chains) if (await findChain(tools, 4, { table, chain })) return true;
      return false;
    };
    const works: Xtables[] = [];
    let why = "";
    for (const tools of kinds) {
      try {
        if (await has(tools, CHAINS[0].table, [CHAINS[0].name])) return tools;
        await listChain(tools, 4, { table: CHAINS[0].table, chain: CHAINS[0].parent });
        works.push(tools);
      } catch (thrown) {
        why = Fault.from(thrown).detail;
      }
    }
    for (const tools of works) if (await has(tools, "mangle", KUBELET_CHAINS)) return tools;
    if (works[0] !== undefined) return works[0];
    this.#kinds = undefined;
    throw faults.NO_IPTABLES({ why: why || "iptables-restore and ip6tables-restore are not installed" });
  }

  async #sync(): Promise<void> {
    clearTimeout(this.#timer);
    const plan = this.#plan;
    this.#writing = plan;
    const rules = async (family: Family): Promise<void> => {
      const part = RULES[family];
      const desired = plan.chains[family].reduce((sum, chain) => sum + chain.rules.length, 0);
      await this.#try(part, desired, () => this.#writeRules(family, plan.chains[family]));
    };
    const sets = async (write: () => Promise<number>): Promise<void> => {
      const desired = plan.sets.reduce((sum, set) => sum + set.entries.length, 0);
      await this.#try("ipset", desired, write);
    };
    // Rules name sets: sets come before them, and go after them.
    if (plan === NOTHING) {
      for (const family of FAMILIES) await rules(family);
      await sets(() => this.#destroy([]));
      this.#chosen = undefined;
    } else {
      await sets(() => this.#writeSets(plan));
      if (this.#parts.ipset.done) for (const family of FAMILIES) await rules(family);
      if (this.inForce) await sets(() => this.#destroy(plan.sets.map((set) => set.name)));
    }
    if (this.fault !== undefined && !this.#closed) {
      const { first, longest } = this.#options.retryMs ?? { first: 500, longest: 30_000 };
      this.#timer = setTimeout(() => void this.#retry(), backoffMs(this.#attempt++, first, longest));
      this.#timer.unref();
    }
  }

  async #retry(): Promise<void> {
    await this.#queue.run(() => this.#sync());
    this.#options.onChange?.();
  }

  async #try(part: Part, desired: number, write: () => Promise<number>): Promise<void> {
    const state = this.#parts[part];
    const start = performance.now();
    state.desired = desired;
    try {
      state.lastWrites = await write();
      state.failure = undefined;
      state.done = this.#writing === this.#plan;
    } catch (thrown) {
      state.failure = Fault.from(thrown);
      state.errors++;
      state.done = false;
      // Programs may be installed, or become another kind, until the next try.
      this.#kinds = undefined;
      this.#chosen = undefined;
    }
    state.lastSyncMs = performance.now() - start;
  }

  async #writeSets(plan: NetfilterPlan): Promise<number> {
    const changed = plan.sets.filter((set) => this.#written.get(set.name) !== set.entries.join("\n"));
    if (changed.length === 0) return 0;
    await restoreSets(changed.map(setText).join(""), this.#options.folders);
    for (const set of changed) this.#written.set(set.name, set.entries.join("\n"));
    return changed.reduce((sum, set) => sum + set.entries.length, 0);
  }

  /** Takes away our sets but those to keep. Without ipset there are none. */
  async #destroy(keep: readonly string[]): Promise<number> {
    const gone = await destroySets(
      SET_NAMES.flatMap((name) => [name, `${name}-next`]).filter((name) => !keep.includes(name)),
      this.#options.folders,
    );
    for (const name of gone) this.#written.delete(name);
    return gone.length;
  }

  async #writeRules(family: Family, chains: readonly ChainPlan[]): Promise<number> {
    const kinds = await this.#installed();
    let chosen: Xtables | undefined;
    if (chains.length > 0) {
      this.#chosen ??= await this.#choose();
      chosen = this.#chosen;
    }
    let written = 0;
    for (const tools of kinds) {
      const wanted = tools.kind === chosen?.kind ? chains : [];
      const state = await this.#read(tools, family, wanted);
      const text = rulesText(wanted, (name) => state.get(name));
      if (text === "") continue;
      await restoreRules(tools, family, text);
      written += text.split("\n").length - 1;
      if (wanted.length > 0) await this.#remember(tools, family, wanted);
    }
    if (chains.length === 0) this.#written.delete(RULES[family]);
    return written;
  }

  /** Our chains as they are; for those that are wanted also how they are led to. */
  async #read(
    tools: Xtables,
    family: Family,
    wanted: readonly ChainPlan[],
  ): Promise<Map<string, ChainState>> {
    const found = new Map<string, ChainState>();
    for (const { table, name, parent } of CHAINS) {
      const own = await findChain(tools, family, { table, chain: name });
      // No rule leads to a chain that is not there: then others' chains are none of our business.
      const lead = own !== undefined || wanted.some((chain) => chain.name === name);
      const lines = lead ? await listChain(tools, family, { table, chain: parent }) : [];
      found.set(name, { own, jumps: jumpsTo(lines, name) });
    }
    return found;
  }

  /** Reads back what has been written. @throws Fault RULES_NOT_TAKEN if a chain has not the rules that it was given */
  async #remember(tools: Xtables, family: Family, chains: readonly ChainPlan[]): Promise<void> {
    const state = await this.#read(tools, family, chains);
    for (const { name, rules } of chains) {
      const there = state.get(name);
      const count = (there?.own?.length ?? 0) - 1;
      if (count !== rules.length || there?.jumps.length !== 1)
        throw faults.RULES_NOT_TAKEN({ chain: name, program: RULES[family], rules: rules.length, count });
    }
    this.#written.set(RULES[family], JSON.stringify([...state]));
  }

  async #stands(): Promise<boolean> {
    const counts = await countSets(this.#options.folders);
    if (this.#plan.sets.some((set) => counts.get(set.name) !== set.entries.length)) return false;
    const tools = this.#chosen;
    if (tools === undefined) return false;
    for (const family of FAMILIES) {
      const chains = this.#plan.chains[family];
      if (chains.length === 0) continue;
      const state = JSON.stringify([...(await this.#read(tools, family, chains))]);
      if (this.#written.get(RULES[family]) !== state) return false;
    }
    return true;
  }

  /** One row for each program, in the shape of the maps' reconcilers. */
  status(): ReconcileStatus[] {
    return PARTS.map((part) => {
      const { desired, failure, errors, lastWrites, lastSyncMs } = this.#parts[part];
      return {
        map: part,
        desired,
        realised: failure === undefined ? desired : 0,
        pending: failure === undefined ? 0 : 1,
        failures: failure === undefined ? [] : [{ key: "*", error: failure.detail }],
        errors,
        generation: this.#generation,
        lastWrites,
        lastSyncMs,
      };
    });
  }
}
