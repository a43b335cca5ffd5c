// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent's configuration, YAML or JSON, as Cilium reads it:
// 1. no document: the eleven ranges below, and both link-local ranges;
// 2. a document: exactly its nonMasqueradeCIDRs (none if the list is empty or missing), and each link-local range that
//    is not opted out by masqLinkLocal or masqLinkLocalIPv6;
// 3. a document that cannot be used as a whole (syntax, a wrong type, a wrong prefix) is refused as a whole, so that
//    the caller keeps what was in force; a prefix of a family that is off is left out and reported.
// Host bits are cleared. Every range knows the line it stands on.
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { Fault } from "../base/fault.ts";
import { type Prefix, parsePrefix, prefixFamily } from "../base/prefix.ts";
import type { IpMasqAgentSpec, KeptRange, SourceLine } from "../engine/masquerade/spec.ts";
import { faults } from "./faults.ts";

/** The ranges that are kept where there is no document (Cilium: Documentation/network/concepts/masquerading.rst). */
export const DEFAULT_RANGES: readonly string[] = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "240.0.0.0/4",
];
const LINK_LOCAL = "169.254.0.0/16";
const LINK_LOCAL_IPV6 = "fe80::/10";

/** More would not fit beside the native ranges into nonmasq_cidrs (16384 entries). */
const MAX_RANGES = 16_000;
const MAX_DOCUMENT = 4 * 1024 * 1024;

export interface IpMasqAgentDocument {
  /** `ConfigMap kube-system/ip-masq-agent`, or the file's path. */
  readonly origin: string;
  /** `data.config` in a ConfigMap, "" in a file. */
  readonly path: string;
  readonly text: string;
}

export interface IpMasqAgentReading {
  readonly spec: IpMasqAgentSpec;
  /** Entries that were left out, keys that nobody knows. */
  readonly faults: readonly Fault[];
}

export interface Families {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

const inUse = (prefix: Prefix, families: Families): boolean =>
  prefixFamily(prefix) === 4 ? families.ipv4 : families.ipv6;

function defaultRange(text: string, source: SourceLine): KeptRange {
  return { prefix: parsePrefix(text), source };
}

/** What is in force where there is no document. */
export function defaultIpMasqAgent(families: Families): IpMasqAgentSpec {
  const source = { origin: "ip-masq-agent defaults", path: "", line: 0 };
  const ranges = [...DEFAULT_RANGES, LINK_LOCAL, LINK_LOCAL_IPV6]
    .map((text) => defaultRange(text, source))
    .filter((range) => inUse(range.prefix, families));
  return { ranges };
}

class Reader {
  readonly document: IpMasqAgentDocument;
  readonly lines = new LineCounter();

  constructor(document: IpMasqAgentDocument) {
    this.document = document;
  }

  where(path: string): { origin: string; path: string } {
    return {
      origin: this.document.origin,
      path: [this.document.path, path].filter((p) => p !== "").join(" "),
    };
  }

  line(node: Node | null | undefined): number {
    const at = node?.range?.[0];
    return at === undefined ? 0 : this.lines.linePos(at).line;
  }

  invalid(path: string, why: string, cause?: unknown): Fault {
    return faults.DOCUMENT_INVALID({ ...this.where(path), why }, cause);
  }

  source(node: Node | null | undefined): SourceLine {
    return { origin: this.document.origin, path: this.document.path, line: this.line(node) };
  }
}

function parseRoot(reader: Reader): ReadonlyMap<string, Node | null> {
  const { text } = reader.document;
  if (text.length > MAX_DOCUMENT) throw reader.invalid("", `more than ${MAX_DOCUMENT} characters`);
  const parsed = parseDocument(text, { lineCounter: reader.lines, prettyErrors: false, uniqueKeys: true });
  const error = parsed.errors[0];
  if (error !== undefined) {
    const { line } = reader.lines.linePos(error.pos[0]);
    throw reader.invalid("", `line ${line}: ${error.message.split("\n")[0]}`, error);
  }
  const root = parsed.contents;
  if (root === null || (isScalar(root) && root.value === null)) return new Map();
  if (!isMap(root)) throw reader.invalid("", "not a map of keys to values");
  const fields = new Map<string, Node | null>();
  for (const { key, value } of root.items) {
    fields.set(String(isScalar(key) ? key.value : key), value as Node | null);
  }
  return fields;
}

function readFlag(reader: Reader, fields: ReadonlyMap<string, Node | null>, name: string): boolean {
  const node = fields.get(name);
  if (node === undefined || node === null) return false;
  const value = isScalar(node) ? node.value : undefined;
  if (value === null) return false;
  if (typeof value !== "boolean") throw reader.invalid(name, `line ${reader.line(node)}: not true or false`);
  return value;
}

function readRanges(reader: Reader, node: Node | null | undefined): KeptRange[] {
  if (node === undefined || node === null || (isScalar(node) && node.value === null)) return [];
  if (!isSeq(node)) throw reader.invalid("nonMasqueradeCIDRs", `line ${reader.line(node)}: not a list`);
  if (node.items.length > MAX_RANGES) {
    throw reader.invalid("nonMasqueradeCIDRs", `${node.items.length} entries; at most ${MAX_RANGES} fit`);
  }
  return node.items.map((item, i) => {
    const path = `nonMasqueradeCIDRs[${i}]`;
    const value = isScalar(item) ? item.value : undefined;
    if (typeof value !== "string") {
      throw reader.invalid(path, `line ${reader.line(item as Node)}: not a prefix in text`);
    }
    if (!value.includes("/")) {
      throw faults.ENTRY_REFUSED({ ...reader.where(path), value, why: "no prefix length" });
    }
    try {
      return { prefix: parsePrefix(value), source: reader.source(item as Node) };
    } catch (thrown) {
      const why = String(Fault.from(thrown).context.why ?? "not a prefix");
      throw faults.ENTRY_REFUSED({ ...reader.where(path), value, why }, thrown);
    }
  });
}

const KNOWN = new Set([
  "nonMasqueradeCIDRs",
  "masqLinkLocal",
  "masqLinkLocalIPv6",
  "resyncInterval",
  "cidrLimit",
]);

/**
 * The set that a document asks for.
 * @throws Fault DOCUMENT_INVALID or ENTRY_REFUSED with path and line: nothing of the document may then be used
 */
export function decodeIpMasqAgent(document: IpMasqAgentDocument, families: Families): IpMasqAgentReading {
  const reader = new Reader(document);
  const fields = parseRoot(reader);
  const found: Fault[] = [];
  const all = readRanges(reader, fields.get("nonMasqueradeCIDRs"));
  const keepLinkLocal = !readFlag(reader, fields, "masqLinkLocal");
  const keepLinkLocalIPv6 = !readFlag(reader, fields, "masqLinkLocalIPv6");
  for (const [key, node] of fields) {
    if (KNOWN.has(key)) continue;
    found.push(reader.invalid(key, `line ${reader.line(node)}: no such key; left out`));
  }
  const ranges = all.filter((range, i) => {
    if (inUse(range.prefix, families)) return true;
    const family = prefixFamily(range.prefix);
    const value = `${range.prefix.address}/${range.prefix.length}`;
    const path = `nonMasqueradeCIDRs[${i}]`;
    found.push(faults.ENTRY_REFUSED({ ...reader.where(path), value, why: `IPv${family} is off; left out` }));
    return false;
  });
  const implied = (text: string, key: string): void => {
    const source = { origin: document.origin, path: `${document.path} ${key} not set`.trim(), line: 0 };
    const range = defaultRange(text, source);
    if (inUse(range.prefix, families)) ranges.push(range);
  };
  if (keepLinkLocal) implied(LINK_LOCAL, "masqLinkLocal");
  if (keepLinkLocalIPv6) implied(LINK_LOCAL_IPV6, "masqLinkLocalIPv6");
  return { spec: { ranges }, faults: found };
}
