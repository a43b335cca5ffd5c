// SPDX-License-Identifier: Apache-2.0
// `hookline bpf ipmasq list`: destinations that keep the pod's address, as they are in the kernel, under Cilium's header;
// with --verbose, and for programs, all of them with rule and, if an agent answers, the line that asks for each.
import { type Command, Option } from "commander";
import type { ExclusionReport } from "../agent/status.ts";
import { comparePrefixes, formatPrefix, type Prefix, prefixContains, prefixFamily } from "../base/prefix.ts";
import { MasqueradeRule, masqueradeRuleText } from "../maps/gen/verdict.ts";
import { askAgent } from "./agent.ts";
import { prefixArgument } from "./arguments.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { type FamilyFilter, isFamilyWanted, withFamilies } from "./family.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget, type Target } from "./target.ts";

interface Exclusion {
  prefix: string;
  rule: number;
  ruleText: string;
  /** `/etc/config/ip-masq-agent line 3`; "" if no agent answers. */
  source: string;
}

interface Filter extends FamilyFilter {
  readonly ip?: Prefix;
}

const COLUMNS: Column<Exclusion>[] = [{ header: "IP PREFIX/ADDRESS", cell: (e) => e.prefix }];
const VERBOSE: Column<Exclusion>[] = [
  ...COLUMNS,
  { header: "RULE", cell: (e) => `${e.rule}: ${e.ruleText}` },
  { header: "SOURCE", cell: (e) => e.source },
];

/** Whether a range is asked for: of that family, and around or inside that address or network. */
export function isExclusionWanted(prefix: Prefix, filter: Filter): boolean {
  const { ip } = filter;
  if (!isFamilyWanted(prefixFamily(prefix), filter)) return false;
  return ip === undefined || prefixContains(prefix, ip) || prefixContains(ip, prefix);
}

/** Lines by range; none if no agent answers, for the maps speak for themselves. */
async function sources(target: Target): Promise<Map<string, string>> {
  try {
    const all = await askAgent<ExclusionReport[]>(target, "/v1/exclusions");
    return new Map(all.map(({ prefix, source }) => [prefix, source]));
  } catch {
    return new Map();
  }
}

async function readExclusions(target: Target, filter: Filter): Promise<Exclusion[]> {
  const { pinsOf } = await import("./pins.ts");
  const { openPinned } = await import("../maps/table.ts");
  using table = openPinned(pinsOf(target), "nonmasq_cidrs");
  const lines = await sources(target);
  return (
    [...table.entries()]
      // Entries of rule 9 only bound those of the other family.
      .filter(([prefix, { rule }]) => rule !== MasqueradeRule.MASQ_POD && isExclusionWanted(prefix, filter))
      .sort(([a], [b]) => comparePrefixes(a, b))
      .map(([prefix, { rule }]) => {
        const text = formatPrefix(prefix);
        const ruleText = masqueradeRuleText[rule] ?? `rule ${rule}`;
        return { prefix: text, rule, ruleText, source: lines.get(text) ?? "" };
      })
  );
}

export function addBpfIpmasq(group: Command): void {
  const ipmasq = group.command("ipmasq").description("destinations that are not masqueraded");
  withExamples(
    withFamilies(
      withFormat(ipmasq.command("list").description("list them")).addOption(
        new Option("--ip <address|cidr>", "only ranges around it or inside it").argParser(prefixArgument),
      ),
    ).option(
      "-v, --verbose",
      "native-routing ranges too, and for each its rule and the line that asks for it",
    ),
    [
      ["hookline bpf ipmasq list", "as cilium bpf ipmasq list prints them"],
      ["hookline bpf ipmasq list -v --ip 10.1.2.3", "what decides about one address, and who asked for it"],
      ["hookline bpf ipmasq list -o json", "all of it, for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption & Filter & { verbose?: boolean }>();
    const all = await readExclusions(resolveTarget(options), options);
    const verbose = options.verbose || options.output !== "table";
    // The native-routing CIDRs share the map; Cilium's command does not list them.
    const rows = verbose ? all : all.filter(({ rule }) => rule === MasqueradeRule.MASQ_NONMASQ_CIDR);
    await printRows(options.output, verbose ? VERBOSE : COLUMNS, rows);
  });
}
