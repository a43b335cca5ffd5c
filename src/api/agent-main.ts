// SPDX-License-Identifier: Apache-2.0
// `hookline agent`: options read, the agent started, its socket opened, signals obeyed. SIGTERM and SIGINT end the process
// and leave the data plane working.
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { Agent } from "../agent/create.ts";
import { helpText } from "../agent/help.ts";
import { dropPrivileges } from "../agent/privileges.ts";
import {
  configReport,
  endpointById,
  endpointReports,
  exclusionReports,
  nodeReports,
  statusReport,
} from "../agent/report.ts";
import { startOptions } from "../agent/start-options.ts";
import { VERSION } from "../agent/version.ts";
import { createLog, type Log } from "../base/log.ts";
import { CniHandler } from "./cni.ts";
import { keepInstalling } from "./cni-installer.ts";
import { Metrics } from "./metrics.ts";
import { readSample } from "./metrics-sample.ts";
import { MetricsServer } from "./metrics-server.ts";
import { AgentApiServer, type AgentView } from "./server.ts";

function viewOf(agent: Agent, metrics: Metrics): AgentView {
  return {
    status: () => statusReport(agent),
    health: () => {
      const obstacle = agent.pods.notReady();
      return { ok: obstacle === undefined, text: obstacle ?? "ok" };
    },
    endpoints: () => endpointReports(agent),
    endpoint: (id) => endpointById(agent, id),
    config: () => configReport(agent),
    nodes: () => nodeReports(agent),
    exclusions: () => exclusionReports(agent),
    metrics,
    flows: agent.flows,
  };
}

/** Resolves with the name of the signal that asks the process to end. */
function untilSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  });
}

/** Serves metrics where the configuration says, and follows it. */
function serveMetrics(agent: Agent, metrics: Metrics, log: Log): MetricsServer {
  const server = new MetricsServer({
    expose: () => metrics.expose(),
    onFault: (fault) => {
      agent.serviceFault = fault;
    },
    log,
  });
  const follow = (): void => {
    if (agent.config.config !== undefined) server.follow(agent.config.config["prometheus-serve-addr"]);
  };
  agent.onUpdate = follow;
  follow();
  return server;
}

async function serve(agent: Agent, log: Log): Promise<void> {
  const signal = untilSignal();
  const cni = new CniHandler({
    backend: agent.pods,
    runDir: agent.options.runDir,
    log,
    started: agent.ready,
  });
  const socketPath = join(agent.options.runDir, "agent.sock");
  const metrics = new Metrics(() => readSample(agent));
  const server = new AgentApiServer({ socketPath, view: viewOf(agent, metrics), cni, log });
  await server.listen();
  const prometheus = serveMetrics(agent, metrics, log);
  // DELs that were queued need the restored endpoints and nothing else; ADDs wait for them.
  const done = await cni.drainDeletes();
  if (done > 0) log.info({ done }, "queued DELs done");
  const stop = new AbortController();
  void keepInstalling(agent, log, stop.signal);
  log.info({ signal: await signal }, "ending; the data plane stays attached");
  stop.abort();
  prometheus.close();
  await server.close();
  await agent.stop();
}

/**
 * Runs an agent until a signal ends it. `args` are those after `hookline agent`.
 * @returns the exit status
 * @throws Fault of options, lock, API address: what stands in the way of any start
 */
export async function agentMain(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(helpText());
    return 0;
  }
  if (args.includes("--version")) {
    process.stdout.write(`hookline ${VERSION}\n`);
    return 0;
  }
  // V8 trades memory for speed that an agent has no use for: 250 pods that come and go cost 220 MB resident without this,
  // 130 MB with it, and no time.
  setFlagsFromString("--optimize-for-size");
  const options = startOptions(args, process.env);
  const log = createLog("agent", options.logLevel).child({ node: options.nodeName });
  // Before anything uses the thread pool: capabilities belong to threads.
  dropPrivileges(log);
  // A rejection that nobody handles is a fault of the program. It is told, and the agent goes on: what is in force in
  // the kernel is worth more than a restart, which would not cure it.
  process.on("unhandledRejection", (thrown) => log.error({ err: thrown }, "unhandled rejection"));
  const agent = await Agent.start(options, log);
  await serve(agent, log);
  return 0;
}
