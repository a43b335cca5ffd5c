// SPDX-License-Identifier: Apache-2.0
// `hookline bpf ipmasq list`: destinations that keep the pod's address, under Cilium's header.
import type { Command } from "commander";
import { formatPrefix } from "../base/prefix.ts";
import { type FormatOption, type GlobalOptions, withExamples, withFormat } from "./command.ts";
import { printRows } from "./output.ts";
import type { Column } from "./table.ts";
import { resolveTarget } from "./target.ts";

interface Exclusion {
  prefix: string;
  rule: number;
  ruleText: string;
}

const COLUMNS: Column<Exclusion>[] = [{ header: "IP PREFIX/ADDRESS", cell: (e) => e.prefix }];

export function addBpfIpmasq(group: Command): void {
  const ipmasq = group.command("ipmasq").description("destinations that are not masqueraded");
  withExamples(withFormat(ipmasq.command("list").description("list them")), [
    ["hookline bpf ipmasq list", "as cilium bpf ipmasq list prints them"],
    ["hookline bpf ipmasq list -o json", "with the rule that each one stands for"],
  ]).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<GlobalOptions & FormatOption>();
    const { pinsOf } = await import("./pins.ts");
    const { openPinned } = await import("../maps/table.ts");
    const { MasqueradeRule, masqueradeRuleText } = await import("../maps/gen/verdict.ts");
    using table = openPinned(pinsOf(resolveTarget(options)), "nonmasq_cidrs");
    const rows = [...table.entries()]
      .map(([prefix, { rule }]) => ({
        prefix: formatPrefix(prefix),
        rule,
        ruleText: masqueradeRuleText[rule] ?? `rule ${rule}`,
      }))
      // The native-routing CIDRs share the map; Cilium's command does not list them.
      .filter(({ rule }) => options.output !== "table" || rule === MasqueradeRule.MASQ_NONMASQ_CIDR);
    await printRows(options.output, COLUMNS, rows);
  });
}
