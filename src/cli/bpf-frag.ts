// SPDX-License-Identifier: Apache-2.0
// `hookline bpf frag list`: later fragments that wait for the first of their datagram.
import type { Command } from "commander";
import { familyOf } from "../base/addr.ts";
import type { Held } from "../maps/gen/types.ts";
import { hookText } from "../maps/gen/verdict.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { type FamilyFilter, isFamilyWanted, withFamilies } from "./family.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

/** One fragment. */
interface FragmentRow {
  readonly proto: string;
  readonly source: string;
  readonly destination: string;
  /** Identification of the datagram. */
  readonly id: number;
  /** Of the IP packet. */
  readonly bytes: number;
  readonly waitsSeconds: number;
  readonly hook: string;
  /** Id of the pod that sent it, 0 if it came from the network. */
  readonly endpoint: number;
}

const COLUMNS: Column<FragmentRow>[] = [
  { header: "PROTO", cell: (f) => f.proto },
  { header: "SOURCE", cell: (f) => f.source },
  { header: "DESTINATION", cell: (f) => f.destination },
  { header: "ID", cell: (f) => f.id, right: true },
  { header: "BYTES", cell: (f) => f.bytes, right: true },
  { header: "WAITS", cell: (f) => formatSeconds(f.waitsSeconds), right: true },
  { header: "HOOK", cell: (f) => f.hook },
  { header: "ENDPOINT", cell: (f) => f.endpoint, right: true },
];

/** `since` of a place that is free, or that somebody is filling or emptying. */
const NOBODY: readonly number[] = [0, 1];

async function readHeld(options: GlobalOptions & FamilyFilter): Promise<FragmentRow[]> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  const { nowTicks, TICK_NS } = await import("../maps/ticks.ts");
  const { protocolName } = await import("../observe/protocol.ts");
  using table = openPinned(pinsOf(resolveTarget(options)), "frag_held");
  const now = nowTicks();
  const row = ({ key, since, len, endpoint, hook, proto }: Held): FragmentRow => ({
    proto: protocolName(proto),
    source: key.saddr,
    destination: key.daddr,
    // IPv4's is in the first two bytes.
    id: familyOf(key.saddr) === 4 ? key.id >>> 16 : key.id,
    bytes: len,
    waitsSeconds: (Math.max(0, (now - since) | 0) * Number(TICK_NS)) / 1e9,
    hook: hookText[hook] ?? `hook ${hook}`,
    endpoint,
  });
  return [...table.entries()]
    .map(([, held]) => held)
    .filter(({ since, key }) => !NOBODY.includes(since) && isFamilyWanted(familyOf(key.saddr), options))
    .map(row);
}

export function addBpfFrag(group: Command): void {
  const frag = group.command("frag").description("fragments that came before the first of their datagram");
  withExamples(withFamilies(withFormat(frag.command("list").description("list those that wait for it"))), [
    ["hookline bpf frag list", "who sent them, and how long they wait"],
    ["hookline bpf frag list -o json", "for programs"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & FamilyFilter>();
    await printRows(options.output, COLUMNS, await readHeld(options));
  });
}
