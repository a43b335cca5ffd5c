// SPDX-License-Identifier: Apache-2.0
// A netfilter plan as the input of `ipset restore` and `iptables-restore --noflush`, given what stands there now. Pure.
import { CHAINS, type ChainPlan, type SetPlan } from "./netfilter-plan.ts";

/** Entries that a set may have. The same for ever: ipset refuses to make a set again with another number. */
const MAX_ENTRIES = 131_072;

/**
 * Makes a set hold exactly its entries. They are put into a second set, and the two change places in one step: no
 * packet meets the set without an entry that it had and has.
 */
export function setText({ name, family, entries }: SetPlan): string {
  const kind = `hash:net family ${family === 4 ? "inet" : "inet6"} maxelem ${MAX_ENTRIES}`;
  const next = `${name}-next`;
  return [
    `create ${name} ${kind} -exist`,
    `create ${next} ${kind} -exist`,
    `flush ${next}`,
    ...entries.map((entry) => `add ${next} ${entry}`),
    `swap ${next} ${name}`,
    `destroy ${next}`,
    "",
  ].join("\n");
}

/** What `iptables -S` says of one of our chains and of the chain that leads to it. */
export interface ChainState {
  /** Lines of our chain, undefined if it is not there. */
  readonly own: readonly string[] | undefined;
  /** Lines of the parent chain that lead to ours, as `-A PARENT ...`. */
  readonly jumps: readonly string[];
}

const drop = (jumps: readonly string[]): string[] => jumps.map((line) => line.replace(/^-A /, "-D "));

function chainText(chain: ChainPlan, state: ChainState): string[] {
  const insert = chain.place === "first" ? `-I ${chain.parent} 1` : `-A ${chain.parent}`;
  const jump = `${chain.when} -j ${chain.name}`;
  const [first, ...more] = state.jumps;
  const right = first === `-A ${chain.parent} ${jump}`;
  return [
    `*${chain.table}`,
    // Makes the chain, or empties it.
    `:${chain.name} - [0:0]`,
    ...chain.rules.map((rule) => `-A ${chain.name} ${rule}`),
    ...drop(right ? more : state.jumps),
    ...(right ? [] : [`${insert} ${jump}`]),
    "COMMIT",
  ];
}

/**
 * One family's input: chains of the plan made or replaced, our others taken away. `stateOf` tells what is there. Empty
 * if there is nothing to do.
 */
export function rulesText(
  chains: readonly ChainPlan[],
  stateOf: (name: string) => ChainState | undefined,
): string {
  const lines = CHAINS.flatMap(({ table, name }) => {
    const state = stateOf(name) ?? { own: undefined, jumps: [] };
    const wanted = chains.find((chain) => chain.name === name);
    if (wanted !== undefined) return chainText(wanted, state);
    if (state.own === undefined) return [];
    return [`*${table}`, `:${name} - [0:0]`, ...drop(state.jumps), `-X ${name}`, "COMMIT"];
  });
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Lines of `iptables -S PARENT` that lead to a chain. */
export function jumpsTo(lines: readonly string[], chain: string): string[] {
  return lines.filter((line) => line.startsWith("-A ") && line.split(" ").at(-1) === chain);
}
