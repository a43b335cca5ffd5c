// SPDX-License-Identifier: Apache-2.0
// `hookline lab ...`: a whole cluster on this machine.
import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { sleep } from "../base/async.ts";
import type { LabStatus } from "../lab/status.ts";
import { collect, type FormatOption, withExamples, withFormat } from "./command.ts";
import { formatSeconds } from "./duration.ts";
import { EXIT } from "./faults.ts";
import { addLabInternals } from "./lab-internals.ts";
import { printValue, write } from "./output.ts";
import { findPackage, ownCommand } from "./package.ts";
import { renderTable } from "./table.ts";

interface LabOption {
  name?: string;
  lab?: string;
}

interface UpOptions extends LabOption {
  nodes: number;
  podsPerNode: number;
  mtu: number;
  config: string[];
  manifests?: string;
  replace?: boolean;
  once?: boolean;
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Not a whole number.");
  return Number(text);
}

/** `--name`, or the global `--lab`, or the default. */
function labName(options: LabOption): string {
  return options.name ?? options.lab ?? process.env.HOOKLINE_LAB ?? "lab";
}

function withName(command: Command): Command {
  return command.option("--name <name>", 'name of the lab (default "lab")');
}

function withPlan(command: Command): Command {
  return withName(command)
    .addOption(new Option("--nodes <n>", "nodes").default(3).argParser(wholeNumber))
    .addOption(
      new Option("--pods-per-node <n>", "pods that each node starts with").default(2).argParser(wholeNumber),
    )
    .addOption(
      new Option("--mtu <bytes>", "MTU of the network between nodes").default(1500).argParser(wholeNumber),
    )
    .option("--config <key=value>", "an option of the agents (repeatable)", collect, [])
    .option("--manifests <dir>", "folder of more Kubernetes objects, followed while the lab runs");
}

/** Starts the lab as asked for and says so. */
async function start(options: UpOptions): Promise<string> {
  const { upLab } = await import("../lab/up.ts");
  const { parseConfigPairs } = await import("../lab/plan.ts");
  const name = labName(options);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  say(`Lab "${name}": ${options.nodes} nodes, ${options.podsPerNode} pods each.`);
  const { already, seconds, state } = await upLab(
    {
      name,
      nodes: options.nodes,
      podsPerNode: options.podsPerNode,
      mtu: options.mtu,
      config: parseConfigPairs(options.config),
      ...(options.manifests === undefined ? {} : { manifestsDir: resolve(options.manifests) }),
    },
    {
      entry: ownCommand(),
      bundle: resolve(findPackage().root, "dist/hookline-cni.cjs"),
      replace: options.replace ?? false,
      say,
    },
  );
  say(already ? "It is up already." : `Up in ${seconds.toFixed(1)} s.`);
  say(`kubectl works with KUBECONFIG=${state.plan.kubeconfig}\n`);
  return name;
}

async function takeDown(name: string): Promise<void> {
  const { downLab } = await import("../lab/down.ts");
  const { found, processes, namespaces, mounts, lingering } = await downLab(name);
  await write(
    found
      ? `Lab "${name}" is down: ${processes} processes, ${namespaces} namespaces, ${mounts} mounts removed.\n`
      : `There is no lab "${name}".\n`,
  );
  for (const process of lingering) await write(`Process ${process} still sits in one of its namespaces.\n`);
}

const NEXT = (name: string): string => {
  const lab = name === "lab" ? "" : ` --lab ${name}`;
  return `What to try next, in another terminal:
   hookline${lab} lab shell pod-1-1              a shell in a pod
   hookline${lab} --node node1 monitor           new flows and drops as they happen
   hookline${lab} --node node1 bpf map list      how full the tables are
   hookline${lab} lab down                       take everything away
   (npm run hookline -- ... where hookline is not installed)

`;
};

async function demonstrate(name: string): Promise<boolean> {
  const { runDemo } = await import("../lab/demo.ts");
  const held = await runDemo(name, write);
  await write(held ? "Every step held.\n\n" : "Not every step held: see the lines that begin with ✗.\n\n");
  await write(NEXT(name));
  return held;
}

/** Resolves when the lab's supervisor has ended. */
async function whileUp(name: string): Promise<void> {
  const { readState } = await import("../lab/state.ts");
  const { isAlive } = await import("../lab/identity.ts");
  for (;;) {
    const state = readState(name);
    if (!state || !isAlive(state.supervisor)) return;
    await sleep(500);
  }
}

/** Runs `work` until it ends or the user has had enough, or reads no more; true then. Later signals are swallowed. */
async function interrupted(work: Promise<void>): Promise<boolean> {
  const signal = new Promise<true>((done) => {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"] as const)
      process.on(name, () => done(true));
  });
  return Promise.race([signal, work.then(() => false)]);
}

/** `lab up`; Ctrl-C meanwhile takes away what has been started. */
async function up(options: UpOptions): Promise<void> {
  const work = start(options).then(() => undefined);
  if (!(await interrupted(work))) process.exit(EXIT.ok);
  await takeDown(labName(options));
  process.exit(EXIT.error);
}

/** `lab run`: up, demonstration, wait, down. */
async function run(options: UpOptions): Promise<void> {
  let held = false;
  const work = async (): Promise<void> => {
    const name = await start({ ...options, replace: true });
    held = await demonstrate(name);
    if (options.once) return;
    await write("The lab stays up until Ctrl-C.\n");
    await whileUp(name);
  };
  try {
    await interrupted(work());
  } finally {
    await takeDown(labName(options));
  }
  process.exit(held ? EXIT.ok : EXIT.error);
}

function statusText(status: LabStatus): string {
  const nodes = renderTable(
    [
      { header: "NODE", cell: (n) => n.name },
      { header: "ADDRESSES", cell: (n) => n.addresses.join(",") },
      { header: "POD CIDRS", cell: (n) => n.podCidrs.join(",") },
      { header: "AGENT", cell: (n) => (n.agent === "ok" ? "ok" : `${n.agent}: ${n.text}`) },
    ],
    status.nodes,
  );
  const pods = renderTable(
    [
      { header: "POD", cell: (p) => (p.namespace === "default" ? p.name : `${p.namespace}/${p.name}`) },
      { header: "NODE", cell: (p) => p.node },
      { header: "ADDRESSES", cell: (p) => p.addresses.join(",") },
      { header: "PHASE", cell: (p) => p.phase },
    ],
    status.pods,
  );
  const age = (Date.now() - Date.parse(status.startedAt)) / 1000;
  return `Lab "${status.name}", up ${formatSeconds(age)}, MTU ${status.mtu}, KUBECONFIG=${status.kubeconfig}\n\n${nodes}\n${pods}`;
}

function addUpAndDown(group: Command): void {
  withExamples(
    withPlan(group.command("up").description("start a lab in the background")).option(
      "--replace",
      "take a lab of that name away first",
    ),
    [
      ["hookline lab up", "three nodes, two pods each"],
      ["hookline lab up --name big --nodes 5 --pods-per-node 10", "beside it, another one"],
      ["hookline lab up --config enable-ipv6=false --mtu 9000", "with other settings"],
    ],
  ).action((_: unknown, command: Command) => up(command.optsWithGlobals<UpOptions>()));
  withExamples(withName(group.command("down").description("take a lab away, whatever state it is in")), [
    ["hookline lab down", "also after a crash"],
  ]).action((_: unknown, command: Command) => takeDown(labName(command.optsWithGlobals<LabOption>())));
  withExamples(
    withPlan(
      group.command("run").description("start a lab, demonstrate, keep it until Ctrl-C, take it away"),
    ).option("--once", "end after the demonstration; exit status 0 only if every step held"),
    [["hookline lab run --once", "as a test"]],
  ).action((_: unknown, command: Command) => run(command.optsWithGlobals<UpOptions>()));
}

function addInside(group: Command): void {
  withExamples(
    withName(group.command("exec").description("run a program inside a node, a pod or the outside"))
      .argument("<member>", "node, pod, namespace/pod or outside")
      .argument("<command...>", "after --"),
    [
      ["hookline lab exec pod-1-1 -- curl -s http://198.51.100.10/", "the internet, as a pod sees it"],
      ["hookline lab exec node1 -- ip route", "a node's routes"],
    ],
  ).action(async (name: string, argv: string[], _: unknown, command: Command) => {
    const { runningState } = await import("../lab/state.ts");
    const { findMember } = await import("../lab/member.ts");
    const { execIn } = await import("../lab/exec.ts");
    const { plan } = runningState(labName(command.optsWithGlobals<LabOption>()));
    process.exitCode = await execIn(await findMember(plan, name), argv);
  });
  withExamples(
    withName(group.command("shell").description("open a shell inside a node, a pod or the outside")).argument(
      "<member>",
      "node, pod, namespace/pod or outside",
    ),
    [["hookline lab shell node1", "there, `hookline status` means node1"]],
  ).action(async (name: string, _: unknown, command: Command) => {
    const { runningState } = await import("../lab/state.ts");
    const { findMember } = await import("../lab/member.ts");
    const { shellIn } = await import("../lab/exec.ts");
    const { plan } = runningState(labName(command.optsWithGlobals<LabOption>()));
    process.exitCode = await shellIn(plan, await findMember(plan, name));
  });
}

export function addLab(program: Command): void {
  const group = program.command("lab").description("a whole cluster on this machine, in network namespaces");
  addUpAndDown(group);
  withExamples(
    withFormat(withName(group.command("status").description("nodes, agents and pods of a running lab"))),
    [
      ["hookline lab status", "for people"],
      ["hookline lab status -o json", "for programs"],
    ],
  ).action(async (_: unknown, command: Command) => {
    const options = command.optsWithGlobals<LabOption & FormatOption>();
    const { labStatus } = await import("../lab/status.ts");
    await printValue(options.output, await labStatus(labName(options)), statusText);
  });
  addInside(group);
  withExamples(withName(group.command("demo").description("the guided demonstration, on a running lab")), [
    ["hookline lab demo", "again, and again"],
  ]).action(async (_: unknown, command: Command) => {
    if (!(await demonstrate(labName(command.optsWithGlobals<LabOption>())))) process.exitCode = EXIT.error;
  });
  addLabInternals(group);
}
