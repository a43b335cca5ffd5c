// SPDX-License-Identifier: Apache-2.0
// Which mode of masquerading is in force, from the one that the options ask for and what netfilter takes. Rules stand
// before the programs leave masquerading to them, and go after the programs have taken it back, so that at no time
// nobody masquerades. If the rules cannot be made to stand the mode before, at first BPF, stays in force, and is told.
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Endpoint } from "../engine/endpoint/spec.ts";
import type { AdoptedFlow } from "../engine/masquerade/handover.ts";
import { Netfilter } from "../engine/masquerade/netfilter.ts";
import { planNetfilter } from "../engine/masquerade/netfilter-plan.ts";
import type { ReconcileStatus } from "../maps/reconcile.ts";
import { faults } from "./faults.ts";
import { forgetConnections, netfilterFlows } from "./netfilter-flows.ts";
import { idleOptions, type NetfilterInputs, netfilterSpec } from "./netfilter-spec.ts";
import type { MasqueradeMode } from "./node-config.ts";
import type { Config } from "./options.ts";
import type { StateFiles } from "./state-files.ts";

const WORDS: Readonly<Record<MasqueradeMode, string>> = { bpf: "BPF", iptables: "iptables" };

/** How often rules are looked at; somebody may have flushed them. */
const CHECK_MS = 10_000;

/** The mode that the options ask for; with both families off there is nothing that netfilter could do. */
export function wantedMode(config: Config): MasqueradeMode {
  const on = (family: 4 | 6): boolean =>
    config[`enable-ipv${family}`] && config[`enable-ipv${family}-masquerade`];
  return !config["enable-bpf-masquerade"] && (on(4) || on(6)) ? "iptables" : "bpf";
}

export interface ModeSwitchOptions {
  readonly files: StateFiles;
  /** Writes flows into the flow table if the data plane is loaded, and gives how many were new to it. */
  readonly adopt: (flows: readonly AdoptedFlow[]) => Promise<number>;
  /** Called when no connection of netfilter's is left to be taken over: whatever the flow table does not know is nobody's. */
  readonly complete: () => void;
  readonly log: Log;
  /** Called when rules have been written or have failed behind the back of an update. */
  readonly onChange: () => void;
  /** Where to look for programs instead of the system's folders. */
  readonly programFolders?: readonly string[];
}

/** The mode in force and the change from one to the other. */
export class ModeSwitch {
  readonly #files: StateFiles;
  readonly #write: ModeSwitchOptions["adopt"];
  readonly #complete: ModeSwitchOptions["complete"];
  /** The last taking over; an update that comes meanwhile waits for it too. */
  #taking: Promise<void> = Promise.resolve();
  readonly #log: Log;
  readonly #netfilter: Netfilter;
  #mode: MasqueradeMode = "bpf";
  #wanted: MasqueradeMode = "bpf";
  /** Rules and sets of ours are not there: known, not assumed. Looking costs a dozen processes. */
  #clean = false;
  #faults: readonly Fault[] = [];
  readonly #timer: NodeJS.Timeout;
  #inputs: NetfilterInputs | undefined;
  /** For which mode the programs were loaded last, by this agent or the one before it. */
  #before: MasqueradeMode | undefined;
  /** What the state folder says: iptables while there may be rules of ours. */
  #recorded: MasqueradeMode | undefined;

  constructor(options: ModeSwitchOptions) {
    const { files, adopt, complete, log, onChange, programFolders: folders } = options;
    this.#files = files;
    this.#write = adopt;
    this.#complete = complete;
    this.#log = log;
    this.#recorded = this.#load();
    this.#before = this.#recorded;
    this.#clean = this.#recorded === "bpf";
    this.#netfilter = new Netfilter({ onChange, ...(folders === undefined ? {} : { folders }) });
    this.#timer = setInterval(() => void this.#netfilter.check(), CHECK_MS);
    this.#timer.unref();
  }

  get mode(): MasqueradeMode {
    return this.#mode;
  }

  get #rulesWanted(): boolean {
    return this.#wanted === "iptables";
  }

  get faults(): readonly Fault[] {
    const { fault } = this.#netfilter;
    if (fault === undefined) return this.#faults;
    if (this.#mode === this.#wanted) return [...this.#faults, fault];
    return [
      ...this.#faults,
      faults.MODE_NOT_IN_FORCE({ mode: WORDS[this.#wanted], inForce: WORDS[this.#mode], why: fault.detail }),
    ];
  }

  /** Rows of netfilter's writes; none while there is nothing of it. */
  status(): ReconcileStatus[] {
    return this.#rulesWanted || this.#netfilter.fault !== undefined ? this.#netfilter.status() : [];
  }

  /** Before programs are loaded: makes the rules stand if they are asked for. Gives the mode to load programs for. */
  async prepare(inputs: NetfilterInputs): Promise<MasqueradeMode> {
    const { config } = inputs;
    this.#inputs = inputs;
    this.#wanted = wantedMode(config);
    this.#faults = idleOptions(config, this.#wanted);
    if (this.#wanted === "bpf") {
      if (this.#before === "iptables") await this.#adopt();
      return "bpf";
    }
    const { spec, found } = netfilterSpec(inputs);
    this.#faults = [...found, ...this.#faults];
    this.#clean = false;
    this.#record("iptables");
    await this.#netfilter.setDesired(planNetfilter(spec));
    return this.#netfilter.inForce ? "iptables" : this.#mode;
  }

  /** After programs have been loaded for a mode: takes away what it does not use. */
  async settle(mode: MasqueradeMode): Promise<void> {
    const left = this.#before === "iptables" && mode === "bpf";
    if (mode !== this.#mode) this.#log.info({ mode }, "the mode of masquerading has changed");
    this.#mode = mode;
    this.#before = mode;
    // Those that were opened while the programs were loaded.
    if (left) this.#taking = this.#adopt();
    const taking = this.#taking;
    await taking;
    if (taking === this.#taking) this.#complete();
    if (this.#clean || this.#rulesWanted) return;
    await this.#netfilter.remove();
    // Another mode may have been asked for meanwhile.
    if (!this.#netfilter.inForce || this.#rulesWanted) return;
    this.#clean = true;
    this.#record("bpf");
  }

  /** Without an answer it is looked whether there are rules. */
  #load(): MasqueradeMode | undefined {
    try {
      return this.#files.loadMasqueradeMode();
    } catch (thrown) {
      this.#log.warn({ error: Fault.from(thrown).detail }, "the mode before this start is not known");
      return undefined;
    }
  }

  #record(mode: MasqueradeMode): void {
    if (mode !== this.#recorded) this.#files.saveMasqueradeMode(mode);
    this.#recorded = mode;
  }

  /** Lets the programs go on with what netfilter translates. On the stack's way netfilter goes on by itself. */
  async #adopt(): Promise<void> {
    if (this.#inputs === undefined || this.#inputs.config["enable-host-legacy-routing"]) return;
    try {
      const flows = await this.#write(netfilterFlows(this.#inputs.pods));
      this.#log.info({ flows }, "connections taken over from netfilter");
    } catch (thrown) {
      this.#log.warn(
        { error: Fault.from(thrown).detail },
        "not all connections could be taken over from netfilter",
      );
    }
  }

  /** A pod has gone: in iptables mode its connections are netfilter's. */
  podGone(pod: Endpoint): void {
    if (this.#mode !== "iptables") return;
    try {
      forgetConnections(pod);
    } catch (thrown) {
      this.#log.warn({ error: Fault.from(thrown).detail, pod: pod.id }, "connections of a pod not forgotten");
    }
  }

  /** Ends checks and retries; rules stay in force. */
  close(): void {
    clearInterval(this.#timer);
    this.#netfilter.close();
  }
}
