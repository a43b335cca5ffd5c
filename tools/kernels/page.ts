// SPDX-License-Identifier: Apache-2.0
// docs/user/kernels.md: what Hookline needs of a kernel and what it does without the rest, as found on the kernels that
// the tests have just run on. Written by `npm run test:kernels` after a run without failures, never by hand.
import type { FeatureName, Features } from "../../src/kernel/features.ts";
import type { Kernel } from "./packages.ts";

/** What a run on one kernel found. */
export interface KernelReport {
  kernel: Kernel;
  /** Undefined if the machine did not come that far. */
  features?: Features;
  /** Instructions that the verifier walked, by program. */
  instructions: Record<string, number>;
}

/** What Hookline uses a feature for, and does without it if it can. */
interface Use {
  title: string;
  use: string;
  without?: string;
}

const USES: Record<FeatureName, Use> = {
  bpffs: { title: "BPF file system", use: "maps and links outlive the agent" },
  lpmTrie: { title: "longest-prefix tries", use: "CIDR lists, addresses of other nodes" },
  fibLookup: { title: "`bpf_fib_lookup`", use: "the route of a packet" },
  jiffies: { title: "`bpf_jiffies64`", use: "the clock of flows" },
  ringbuf: { title: "ring buffer", use: "events of drops and new flows" },
  innerSizes: { title: "inner maps of any size", use: "a flow table of the configured size, and its growth" },
  redirectNeighbour: {
    title: "`bpf_redirect_neigh`",
    use: "out of a native device without the node's stack",
  },
  redirectPeer: { title: "`bpf_redirect_peer`", use: "into a pod without the node's stack" },
  compareAndSwap: {
    title: "atomic compare-and-swap",
    use: "one processor takes a dead flow's port over, not two",
  },
  forEachElement: { title: "`bpf_for_each_map_elem`", use: "the sweep of the flow table" },
  syscallPrograms: { title: "programs of type syscall", use: "the sweep, run on demand" },
  loop: { title: "`bpf_loop`", use: "the search for a free port over the whole range" },
  btf: { title: "BTF of the kernel", use: "tools that print kernel types", without: "nothing changes" },
  jit: {
    title: "an active JIT compiler",
    use: "speed",
    without: "programs are interpreted: everything works, slowly",
  },
  fibSkipNeighbour: {
    title: "`BPF_FIB_LOOKUP_SKIP_NEIGH`",
    use: "the route without the neighbour, which `bpf_redirect_neigh` finds anyway",
    without:
      "packets take the same way, at the cost of a second look-up of the route and one of the neighbour",
  },
  tcx: {
    title: "TCX",
    use: "`from_net` and `to_net` on native devices as pinned links",
    without:
      "they are cls_bpf filters of the device's clsact qdisc, as on pods' devices: they outlive the agent too and are " +
      "replaced in one step; if somebody deletes the filters or the qdisc, a running agent puts them back at once",
  },
  fibSource: {
    title: "`BPF_FIB_LOOKUP_SRC`",
    use: "`enable-masquerade-to-route-source`",
    without: "the option does nothing: pods get the device's address",
  },
};

const STATE = { supported: "yes", missing: "no", unknown: "?" } as const;

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n");
}

const version = (since: string): number => {
  const [major = 0, minor = 0] = since.split(".").map(Number);
  return major * 1000 + minor;
};

/** Rows of required features, or of the others, oldest first: `cells` gives what stands between name and answers. */
function featureRows(
  reports: readonly KernelReport[],
  required: boolean,
  cells: (use: Use) => string[],
): string[][] {
  const known = Object.entries(reports[0]?.features?.features ?? {});
  const wanted = known.filter(([, feature]) => feature.required === required);
  wanted.sort(([, a], [, b]) => version(a.since) - version(b.since));
  return wanted.map(([name, feature]) => {
    const use = USES[name as FeatureName];
    const answers = reports.map(
      ({ features }) => STATE[features?.features[name as FeatureName].state ?? "unknown"],
    );
    return [use.title, feature.since, ...answers, ...cells(use)];
  });
}

function oldest(features: Features | undefined): string {
  const required = Object.values(features?.features ?? {}).filter((feature) => feature.required);
  return required.reduce((last, { since }) => (version(since) > version(last) ? since : last), "0");
}

function instructionTable(reports: readonly KernelReport[]): string {
  const programs = Object.keys(reports.at(-1)?.instructions ?? {});
  const rows = programs.map((name) => [
    `\`${name}\``,
    ...reports.map(({ instructions }) => (instructions[name] ?? 0).toLocaleString("en")),
  ]);
  return table(["program", ...reports.map(({ kernel }) => kernel.choice.series)], rows);
}

/** Titles of what every kernel that loads the data plane has, though it could do without. */
function neverMissing(reports: readonly KernelReport[]): string[] {
  return Object.entries(USES)
    .filter(([name, use]) => {
      const has = reports.map(
        ({ features }) => features?.features[name as FeatureName].state === "supported",
      );
      return use.without !== undefined && has.every(Boolean);
    })
    .map(([, use]) => use.title);
}

function testedRow({ kernel, features }: KernelReport): string[] {
  const tcx = features?.features.tcx.state === "supported";
  const attached = tcx ? "TCX links; cls_bpf filters tested too" : "cls_bpf filters";
  return [
    kernel.choice.series,
    kernel.choice.release,
    `\`${features?.kernel}\``,
    kernel.choice.tooOld ? "nothing: too old, refused in words" : attached,
  ];
}

/** The page. All reports must hold features. */
export function writePage(reports: readonly KernelReport[]): string {
  const series = reports.map(({ kernel }) => kernel.choice.series);
  const able = reports.filter(({ kernel }) => !kernel.choice.tooOld);
  return `<!-- Written by npm run test:kernels. -->
# Kernels

Hookline needs the features of Linux ${oldest(reports[0]?.features)}, and is tested from ${able[0]?.kernel.choice.series} on. Features are tried, not concluded from a
version, so that the kernel of a distribution which carries one to an older release has it. \`npm run test:kernels\` boots
the kernels below under emulation and runs on each the packet tests, the tests of loader and kernel layer, a lab with its
agents, and journeys of real packets between pods, node and outside, with every way of attaching that the kernel has, with
and without host routing.

${table(["series", "distribution", "release", "what native devices carry"], reports.map(testedRow))}

## What must be there

Without one of these the data plane does not load, and the message of the agent names what is missing.

${table(
  ["feature", "Linux", ...series, "used for"],
  featureRows(reports, true, (use) => [use.use]),
)}

## What may be missing

${table(
  ["feature", "Linux", ...series, "used for", "without it"],
  featureRows(reports, false, (use) => [use.use, use.without ?? ""]),
)}

A kernel that says yes though it is older than the second column has the feature from a fix of its stable series. What
every kernel has that loads the data plane could not be tested without:
${neverMissing(able).join(", ")}.

Before 6.2 the tables of flows carry no types, because the kernel keeps typed and untyped inner maps apart: \`bpftool map dump\`
prints bytes there; \`hookline bpf\` prints the same everywhere.

## Instructions that the verifier walks

With both families, masquerading, host routing and all events on; a load is refused from 1,000,000 on. Verifiers differ.

${instructionTable(able)}
`;
}
