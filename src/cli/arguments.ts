// SPDX-License-Identifier: Apache-2.0
// Values of options that several verbs take, read into what they mean or refused with what is wrong (exit status 2).
import { InvalidArgumentError } from "commander";
import { Fault } from "../base/fault.ts";
import { type Prefix, parsePrefix } from "../base/prefix.ts";

/** An address, which is a network of one, or a network. */
export function prefixArgument(text: string): Prefix {
  try {
    return parsePrefix(text);
  } catch (thrown) {
    throw new InvalidArgumentError(`${String(Fault.from(thrown).context.why ?? "not an address or CIDR")}.`);
  }
}

/** A whole number from 0 to `most`; `what` stands in the refusal. */
export function numberArgument(what: string, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value > most) throw new InvalidArgumentError(`Not ${what}.`);
    return value;
  };
}

/** TCP or UDP port, identifier of ICMP. */
export const portArgument = numberArgument("a port", 65535);
