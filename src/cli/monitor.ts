// SPDX-License-Identifier: Apache-2.0
// `hookline monitor`: drops and new flows as they happen, each with its reason or the rule that decided.
import { type Command, Option } from "commander";
import { Fault } from "../base/fault.ts";
import { parsePrefix, prefixContains } from "../base/prefix.ts";
import { type Flow, type FlowEnd, formatEnd } from "../observe/decode.ts";
import { PROTOCOL_NUMBERS } from "../observe/protocol.ts";
import { explainSilence } from "./agent.ts";
import { portArgument } from "./arguments.ts";
import { type GlobalOptions, withExamples } from "./command.ts";
import { renderData, write } from "./output.ts";
import { resolveTarget } from "./target.ts";

/** What the user wants to see; absent: everything. */
export interface FlowFilter {
  type?: Flow["kind"];
  proto?: string;
  /** Address, CIDR, `namespace/pod`, pod name or `node/name`. */
  from?: string;
  to?: string;
  /** Source or destination port. */
  port?: number;
}

function isEnd(end: FlowEnd, wanted: string): boolean {
  if (end.name === wanted || end.name.endsWith(`/${wanted}`)) return true;
  try {
    return prefixContains(parsePrefix(wanted), end.address);
  } catch {
    return false;
  }
}

/** Whether a flow passes all filters. Addresses after translation do not count. */
export function matches(flow: Flow, filter: FlowFilter): boolean {
  const { type, proto, from, to, port } = filter;
  if (type !== undefined && flow.kind !== type) return false;
  if (proto !== undefined && flow.proto.toLowerCase() !== proto.toLowerCase()) return false;
  if (from !== undefined && !isEnd(flow.source, from)) return false;
  if (to !== undefined && !isEnd(flow.destination, to)) return false;
  return port === undefined || flow.source.port === port || flow.destination.port === port;
}

function endText(end: FlowEnd): string {
  const text = formatEnd(end.address, end.port);
  return end.name === "" ? text : `${end.name} (${text})`;
}

/** One line for people. */
export function flowLine(flow: Flow): string {
  const time = flow.time.slice(11, 23);
  const flags = flow.tcpFlags === "" ? "" : ` [${flow.tcpFlags}]`;
  const head = `${time} ${flow.kind.padEnd(8)} ${flow.hook}@${flow.device || flow.ifindex}`;
  const tuple = `${flow.proto}${flags} ${endText(flow.source)} -> ${endText(flow.destination)}`;
  if (flow.kind === "drop") return `${head} ${tuple}: ${flow.reasonText} (${flow.reason})`;
  const became = flow.translated === undefined ? "" : ` as ${flow.translated.source}`;
  const line = flow.ruleSource === "" ? "" : ` (${flow.ruleSource})`;
  return `${head} ${tuple}${became}, rule ${flow.rule}: ${flow.ruleText}${line}`;
}

type MonitorOptions = GlobalOptions & FlowFilter & { output: "table" | "json" | "yaml" };

async function follow(options: MonitorOptions): Promise<void> {
  const { followFlows } = await import("../api/client.ts");
  const target = resolveTarget(options);
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort()).once("SIGTERM", () => stop.abort());
  try {
    for await (const item of followFlows(target.socket, stop.signal)) {
      if ("lost" in item) {
        process.stderr.write(
          `${item.lost} events lost: the ${item.where === "kernel" ? "ring buffer" : "queue of this command"} was full\n`,
        );
      } else if (matches(item.flow, options)) {
        await write(await render(item.flow, options.output));
      }
    }
  } catch (thrown) {
    if (!stop.signal.aborted) throw explainSilence(thrown, target);
  }
  if (!stop.signal.aborted) throw new Fault("AGENT_ENDED", "the agent has ended", { exitCode: 3 });
}

/** A line of text, a line of JSON, or a YAML document. */
async function render(flow: Flow, format: MonitorOptions["output"]): Promise<string> {
  if (format === "table") return `${flowLine(flow)}\n`;
  if (format === "json") return `${JSON.stringify(flow)}\n`;
  return `---\n${await renderData("yaml", flow)}`;
}

export function addMonitor(program: Command): void {
  withExamples(
    program
      .command("monitor")
      .description("follow drops and new flows, until Ctrl-C")
      .addOption(
        new Option("-o, --output <format>", "text, one JSON object a line, or YAML documents")
          .choices(["table", "json", "yaml"])
          .default("table"),
      )
      .addOption(new Option("--type <kind>", "only these").choices(["drop", "new-flow"]))
      .option("--from <who>", "only from this address, CIDR, pod or node/NAME")
      .option("--to <who>", "only to this address, CIDR, pod or node/NAME")
      .addOption(new Option("--proto <name>", "only this protocol").choices(Object.keys(PROTOCOL_NUMBERS)))
      .addOption(
        new Option("--port <n>", "only with this source or destination port").argParser(portArgument),
      ),
    [
      ["hookline monitor --type drop", "what is dropped, and why"],
      ["hookline --node node1 monitor --from pod-1-1", "new flows of one pod"],
      ["hookline monitor -o json | jq .ruleText", "for programs"],
    ],
  ).action((_: unknown, command: Command) => follow(command.optsWithGlobals<MonitorOptions>()));
}
