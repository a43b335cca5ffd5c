// SPDX-License-Identifier: Apache-2.0
// How the text of an option's value is read, one reader per type, for the options table. A refusal gives the value and
// the reason; who asks puts the path of the document in front.
import { isIP } from "node:net";
import type { Family } from "../base/addr.ts";
import { Fault } from "../base/fault.ts";
import { formatPrefix, type Prefix, parsePrefix, prefixFamily } from "../base/prefix.ts";
import type { PortRange } from "../engine/masquerade/spec.ts";

/** How one type of option is read and shown. */
export interface OptionType<T> {
  /** Name in help and reference. */
  readonly name: string;
  /** @throws Error with the reason, without the value */
  readonly read: (text: string) => T;
  /** What `read` takes back. */
  readonly show: (value: T) => string;
  /** A flag of this type may stand without a value. */
  readonly isSwitch?: boolean;
}

const refuse = (why: string): never => {
  throw new Error(why);
};

/** Where a server listens that was given a port only: nothing of a node is open to its network unless it is asked for. */
const LOOPBACK = "127.0.0.1";

const TRUE = new Set(["true", "1", "t", "yes", "on", "enabled"]);
const FALSE = new Set(["false", "0", "f", "no", "off", "disabled"]);

export const bool: OptionType<boolean> = {
  name: "true|false",
  isSwitch: true,
  read: (text) => {
    const word = text.trim().toLowerCase();
    if (TRUE.has(word)) return true;
    if (FALSE.has(word)) return false;
    return refuse("not true or false");
  },
  show: String,
};

export const text: OptionType<string> = { name: "text", read: (value) => value.trim(), show: (v) => v };

/** A file or folder, absolute, or empty where the option allows none. */
export const path: OptionType<string> = {
  name: "path",
  read: (value) => {
    const trimmed = value.trim();
    if (trimmed.includes("\0")) return refuse("not a path");
    return trimmed;
  },
  show: (v) => v,
};

/** Items apart by comma or blank. */
export const list: OptionType<readonly string[]> = {
  name: "list",
  read: (value) => value.split(/[\s,]+/).filter((item) => item !== ""),
  show: (v) => v.join(","),
};

export function integer(min: number, max: number): OptionType<number> {
  return {
    name: "number",
    read: (value) => {
      if (!/^-?\d{1,15}$/.test(value.trim())) return refuse("not a whole number");
      const number = Number(value.trim());
      if (number < min || number > max) return refuse(`not between ${min} and ${max}`);
      return number;
    },
    show: String,
  };
}

export function oneOf<const T extends readonly string[]>(...words: T): OptionType<T[number]> {
  return {
    name: words.join("|"),
    read: (value) =>
      words.find((word) => word === value.trim().toLowerCase()) ?? refuse(`not one of ${words.join(", ")}`),
    show: (v) => v,
  };
}

/** A prefix of one family; empty means none. */
export function cidr(family: Family): OptionType<Prefix | undefined> {
  return {
    name: `IPv${family} prefix`,
    read: (value) => {
      if (value.trim() === "" || value.trim() === "auto") return undefined;
      let prefix: Prefix;
      try {
        prefix = parsePrefix(value);
      } catch (thrown) {
        return refuse(String(Fault.from(thrown).context.why ?? "not a prefix"));
      }
      if (prefixFamily(prefix) !== family) return refuse(`not an IPv${family} prefix`);
      return prefix;
    },
    show: (v) => (v === undefined ? "" : formatPrefix(v)),
  };
}

const UNIT_SECONDS: Record<string, number> = { h: 3600, m: 60, s: 1, ms: 0.001 };

/** Go's spelling of a duration, `8000s`, `2h13m20s`, `1.5m`; a bare number is seconds. In seconds, 1 s to 1 year. */
export const duration: OptionType<number> = {
  name: "duration",
  read: (value) => {
    const trimmed = value.trim();
    let seconds = 0;
    if (/^\d{1,9}$/.test(trimmed)) seconds = Number(trimmed);
    else {
      if (!/^(\d{1,9}(\.\d{1,9})?(ms|h|m|s))+$/.test(trimmed))
        return refuse("not a duration such as 60s or 2h13m20s");
      for (const [, amount, unit] of trimmed.matchAll(/([\d.]+)(ms|h|m|s)/g)) {
        seconds += Number(amount) * (UNIT_SECONDS[unit ?? "s"] ?? 1);
      }
    }
    if (seconds < 1 || seconds > 31_536_000) return refuse("not between 1s and 8760h");
    return seconds;
  },
  show: (v) => `${v}s`,
};

/** Where a server listens. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `:9962` for loopback, `10.0.0.1:9962`, `[::]:9962`; empty means nowhere. */
export const listenAddress: OptionType<ListenAddress | undefined> = {
  name: "address:port",
  read: (value) => {
    if (value.trim() === "") return undefined;
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]*)):(\d{1,5})$/.exec(value.trim());
    if (match === null) return refuse("not an address and a port such as :9962, 0.0.0.0:9962 or [::]:9962");
    const [, v6, v4, digits] = match;
    const host = v6 ?? (v4 || LOOPBACK);
    if (isIP(host) !== (v6 === undefined ? 4 : 6)) return refuse(`${host} is not an address`);
    const port = Number(digits);
    if (port < 1 || port > 65535) return refuse("no port between 1 and 65535");
    return { host, port };
  },
  show: (v) => {
    if (v === undefined) return "";
    return isIP(v.host) === 6 ? `[${v.host}]:${v.port}` : `${v.host}:${v.port}`;
  },
};

/** `30000,32767` as Cilium writes it, or `30000-32767`. */
export const portRange: OptionType<PortRange> = {
  name: "first,last",
  read: (value) => {
    const match = /^\s*(\d{1,5})\s*[,-]\s*(\d{1,5})\s*$/.exec(value);
    const [first, last] = [Number(match?.[1]), Number(match?.[2])];
    if (match === null) return refuse("not two ports such as 30000,32767");
    if (first < 1 || last > 65535 || first > last) return refuse("not a range of ports between 1 and 65535");
    return { first, last };
  },
  show: (v) => `${v.first},${v.last}`,
};
