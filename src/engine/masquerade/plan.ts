// SPDX-License-Identifier: Apache-2.0
// What nonmasq_cidrs and reserved_ports must hold, from the masquerade spec. Pure; the source index of an entry leads
// back to the input line that asked for it.
import { coversMappedIPv4, formatPrefix, type Prefix, parsePrefix, prefixFamily } from "../../base/prefix.ts";
import type { KeptRange, MasqueradeSpec, PortRange, ReservedPortsSpec, SourceLine } from "./spec.ts";

/** Rules of enum masquerade_rule that an entry of nonmasq_cidrs can stand for. */
export const KeptBy = { NATIVE_CIDR: 5, NONMASQ_CIDR: 7 } as const;

export interface NonmasqEntry {
  readonly prefix: Prefix;
  readonly rule: number;
  /** Index in the source table, never 0. */
  readonly source: number;
}

/** Gives every input line a number that does not change while the agent lives; 0 means no line. */
export class SourceTable {
  #indexes = new Map<string, number>();
  #lines: SourceLine[] = [];

  indexOf(line: SourceLine): number {
    const key = JSON.stringify([line.origin, line.path, line.line]);
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    this.#lines.push(line);
    this.#indexes.set(key, this.#lines.length);
    return this.#lines.length;
  }

  /** The line behind an index of an event or a map entry. */
  line(index: number): SourceLine | undefined {
    return this.#lines[index - 1];
  }
}

/** `ConfigMap kube-system/ip-masq-agent data.config line 3`. */
export function formatSourceLine(line: SourceLine): string {
  const where = [line.origin, line.path].filter((part) => part !== "").join(" ");
  return line.line > 0 ? `${where} line ${line.line}` : where;
}

/**
 * Entries by prefix text. A range asked for twice belongs to the first who asked, native-routing ranges before the
 * ip-masq-agent's, as their rules are numbered.
 */
export function planNonmasq(spec: MasqueradeSpec, sources: SourceTable): Map<string, NonmasqEntry> {
  const entries = new Map<string, NonmasqEntry>();
  const add = (ranges: readonly KeptRange[], rule: number): void => {
    for (const { prefix, source } of ranges) {
      if (!(prefixFamily(prefix) === 4 ? spec.ipv4 : spec.ipv6)) continue;
      const key = formatPrefix(prefix);
      if (!entries.has(key)) entries.set(key, { prefix, rule, source: sources.indexOf(source) });
    }
  };
  add(spec.nativeRanges, KeptBy.NATIVE_CIDR);
  add(spec.ipMasqAgent?.ranges ?? [], KeptBy.NONMASQ_CIDR);
  return entries;
}

const ALL_IPV4 = "0.0.0.0/0";
/** Rule of an entry that says: not kept. MASQ_POD, as if there were no entry. */
const NOT_KEPT = 9;

/**
 * What nonmasq_cidrs holds for planned entries. Maps keep IPv4 inside IPv6, so ::/0 alone would keep all of IPv4: an entry
 * for IPv4 as a whole, longer than any such range and shorter than any of IPv4, stands against that. It is the first, so that
 * ::/0 is at no moment without it; and it goes last, as entries go before the longer ones inside them.
 */
export function nonmasqMap(planned: ReadonlyMap<string, NonmasqEntry>): NonmasqEntry[] {
  const entries = [...planned.values()];
  if (!planned.has(ALL_IPV4) && entries.some((entry) => coversMappedIPv4(entry.prefix))) {
    entries.unshift({ prefix: parsePrefix(ALL_IPV4), rule: NOT_KEPT, source: 0 });
  }
  return entries;
}

/** Words of reserved_ports: 1024 for TCP, then 1024 for UDP. */
export const PORT_WORDS = 2048;

/** Whether a range has a port that is not reserved. */
export function anyPortLeft(words: BigUint64Array, proto: "TCP" | "UDP", range: PortRange): boolean {
  const base = proto === "UDP" ? PORT_WORDS / 2 : 0;
  for (let port = range.first; port <= range.last; port++) {
    const word = words[base + (port >> 6)] ?? 0n;
    if (!((word >> BigInt(port & 63)) & 1n)) return true;
  }
  return false;
}

/** The bitmap: bit port % 64 of word port / 64, UDP from word 1024 on. */
export function planReservedPorts(spec: ReservedPortsSpec): BigUint64Array {
  const words = new BigUint64Array(PORT_WORDS);
  const reserve = (port: number, base: number): void => {
    if (port < 1 || port > 65535) return;
    const word = base + (port >> 6);
    words[word] = (words[word] ?? 0n) | (1n << BigInt(port & 63));
  };
  for (let port = spec.nodePorts.first; port <= spec.nodePorts.last; port++) {
    reserve(port, 0);
    reserve(port, PORT_WORDS / 2);
  }
  if (spec.tunnelPort > 0) reserve(spec.tunnelPort, PORT_WORDS / 2);
  for (const port of spec.listening.tcp) reserve(port, 0);
  for (const port of spec.listening.udp) reserve(port, PORT_WORDS / 2);
  return words;
}
