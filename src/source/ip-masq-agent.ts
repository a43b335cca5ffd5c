// SPDX-License-Identifier: Apache-2.0
// The ip-masq-agent's configuration, YAML or JSON, as Cilium reads it:
// 1. no document: the eleven ranges below, and both link-local ranges;
// 2. a document: exactly its nonMasqueradeCIDRs (none if the list is empty or missing), and each link-local range that
//    is not opted out by masqLinkLocal or masqLinkLocalIPv6;
// 3. a document with anything wrong in it (syntax, a key that nobody knows, a wrong type, a wrong prefix, too much) is
//    refused as a whole, so that the caller keeps what was in force; a prefix of a family that is off is left out and
//    reported.
// Host bits are cleared, a range that is listed twice counts once. Every range knows the line it stands on.
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { Fault } from "../base/fault.ts";
import { formatPrefix, type Prefix, parsePrefix, prefixFamily } from "../base/prefix.ts";
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
/** Kept unless the key says otherwise. */
const LINK_LOCAL = [
  ["masqLinkLocal", "169.254.0.0/16"],
  ["masqLinkLocalIPv6", "fe80::/10"],
] as const;

/** Ranges of each family, those for link-local included: what Cilium's maps hold (cilium_ipmasq_v4 and _v6). */
export const MAX_RANGES = 16_384;
/** What an object of the Kubernetes API can hold. */
export const MAX_DOCUMENT_BYTES = 1024 * 1024;

export interface IpMasqAgentDocument {
  /** `ConfigMap kube-system/ip-masq-agent`, or the file's path. */
  readonly origin: string;
  /** `data.config` in a ConfigMap, "" in a file. */
  readonly path: string;
  readonly text: string;
}

export interface IpMasqAgentReading {
  readonly spec: IpMasqAgentSpec;
  /** Entries that were left out. */
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
  const ranges = [...DEFAULT_RANGES, ...LINK_LOCAL.map(([, text]) => text)]
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

  /** `data.config nonMasqueradeCIDRs[1] line 3`, as far as each is known. */
  where(path: string, line: number): { origin: string; path: string } {
    const at = line > 0 ? `line ${line}` : "";
    return {
      origin: this.document.origin,
      path: [this.document.path, path, at].filter((part) => part !== "").join(" "),
    };
  }

  line(node: Node | null | undefined): number {
    const at = node?.range?.[0];
    return at === undefined ? 0 : this.lines.linePos(at).line;
  }

  /** `at`: the node that is wrong, or its line. */
  invalid(path: string, at: Node | null | undefined | number, why: string): Fault {
    const line = typeof at === "number" ? at : this.line(at);
    return faults.DOCUMENT_INVALID({ ...this.where(path, line), why });
  }

  refused(path: string, at: Node | null | number, value: string, why: string): Fault {
    const line = typeof at === "number" ? at : this.line(at);
    return faults.ENTRY_REFUSED({ ...this.where(path, line), value, why });
  }

  source(node: Node | null | undefined): SourceLine {
    return { origin: this.document.origin, path: this.document.path, line: this.line(node) };
  }
}

/** Keys as Cilium spells them; as in Cilium, whose reader is Go's, case does not count. */
const KEYS = ["nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6"] as const;
/** Keys of the original agent that say how it works, not what is kept: they are taken and change nothing. */
const FOREIGN_KEYS = ["resyncInterval", "cidrLimit"] as const;
type Key = (typeof KEYS)[number] | (typeof FOREIGN_KEYS)[number];
const BY_FOLDED_KEY = new Map<string, Key>([...KEYS, ...FOREIGN_KEYS].map((key) => [key.toLowerCase(), key]));

type Fields = ReadonlyMap<Key, Node | null>;

/** Where a text stops being one: the first control character that is neither tab nor line end. */
function binaryAt(text: string): number | undefined {
  for (let i = 0, line = 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 10) line++;
    else if (code < 32 && code !== 9 && code !== 13) return line;
  }
  return undefined;
}

function parseRoot(reader: Reader): Fields {
  const { text } = reader.document;
  if (Buffer.byteLength(text) > MAX_DOCUMENT_BYTES) {
    throw reader.invalid("", 0, `more than ${MAX_DOCUMENT_BYTES} bytes`);
  }
  const binary = binaryAt(text);
  if (binary !== undefined) throw reader.invalid("", binary, "not text");
  // YAML 1.1, as in Go's libraries for Kubernetes: yes and on are true.
  const options = {
    version: "1.1",
    lineCounter: reader.lines,
    prettyErrors: false,
    uniqueKeys: true,
  } as const;
  const parsed = parseDocument(text, options);
  const error = parsed.errors[0];
  if (error !== undefined) {
    const several = error.code === "MULTIPLE_DOCS";
    const why = several ? "a second document" : (error.message.split("\n")[0] ?? "");
    throw reader.invalid("", reader.lines.linePos(error.pos[0]).line, why);
  }
  const root = parsed.contents;
  if (root === null || (isScalar(root) && root.value === null)) return new Map();
  if (!isMap(root)) throw reader.invalid("", root, "not a map of keys to values");
  const fields = new Map<Key, Node | null>();
  for (const { key, value } of root.items) {
    const name = String(isScalar(key) ? key.value : key);
    const known = BY_FOLDED_KEY.get(name.toLowerCase());
    if (known === undefined) {
      throw reader.invalid(name, key as Node, `no such key; there are ${KEYS.join(", ")}`);
    }
    if (fields.has(known)) throw reader.invalid(name, key as Node, "the key is there twice");
    fields.set(known, value as Node | null);
  }
  return fields;
}

function readFlag(reader: Reader, fields: Fields, name: Key): boolean {
  const node = fields.get(name);
  if (node === undefined || node === null) return false;
  const value = isScalar(node) ? node.value : undefined;
  if (value === null) return false;
  if (typeof value !== "boolean") throw reader.invalid(name, node, "not true or false");
  return value;
}

function readRange(reader: Reader, item: Node | null, path: string): KeptRange {
  const value = isScalar(item) ? item.value : undefined;
  if (typeof value !== "string") throw reader.invalid(path, item, "not a prefix in text");
  if (!value.includes("/")) throw reader.refused(path, item, value, "no prefix length");
  try {
    return { prefix: parsePrefix(value), source: reader.source(item) };
  } catch (thrown) {
    throw reader.refused(path, item, value, String(Fault.from(thrown).context.why ?? "not a prefix"));
  }
}

function readRanges(reader: Reader, node: Node | null | undefined): KeptRange[] {
  if (node === undefined || node === null || (isScalar(node) && node.value === null)) return [];
  if (!isSeq(node)) throw reader.invalid("nonMasqueradeCIDRs", node, "not a list");
  return node.items.map((item, i) => readRange(reader, item as Node | null, `nonMasqueradeCIDRs[${i}]`));
}

/**
 * The set that a document asks for.
 * @throws Fault DOCUMENT_INVALID or ENTRY_REFUSED with path and line: nothing of the document may then be used
 */
export function decodeIpMasqAgent(document: IpMasqAgentDocument, families: Families): IpMasqAgentReading {
  const reader = new Reader(document);
  const fields = parseRoot(reader);
  const listed = readRanges(reader, fields.get("nonMasqueradeCIDRs"));
  const found: Fault[] = [];
  const ranges = new Map<string, KeptRange>();
  const counts = { 4: 0, 6: 0 };
  const add = (range: KeptRange): void => {
    const text = formatPrefix(range.prefix);
    if (ranges.has(text)) return;
    ranges.set(text, range);
    counts[prefixFamily(range.prefix)]++;
  };
  for (const [i, range] of listed.entries()) {
    if (inUse(range.prefix, families)) add(range);
    else {
      const why = `IPv${prefixFamily(range.prefix)} is off; left out`;
      const path = `nonMasqueradeCIDRs[${i}]`;
      found.push(reader.refused(path, range.source.line, formatPrefix(range.prefix), why));
    }
  }
  for (const [key, text] of LINK_LOCAL) {
    if (readFlag(reader, fields, key)) continue;
    const node = fields.get(key);
    const said = node === undefined ? `${key} not set` : key;
    const source = { ...reader.source(node), path: `${document.path} ${said}`.trim() };
    const range = defaultRange(text, source);
    if (inUse(range.prefix, families)) add(range);
  }
  for (const family of [4, 6] as const) {
    if (counts[family] <= MAX_RANGES) continue;
    const why = `${counts[family]} IPv${family} ranges; at most ${MAX_RANGES} of a family can be kept`;
    throw reader.invalid("nonMasqueradeCIDRs", fields.get("nonMasqueradeCIDRs"), why);
  }
  return { spec: { ranges: [...ranges.values()] }, faults: found };
}
