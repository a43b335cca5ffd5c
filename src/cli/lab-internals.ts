// SPDX-License-Identifier: Apache-2.0
// Entry points of the lab's own processes, hidden from the help: the supervisor, and the
// servers of a pod and of the outside.
import { resolve } from "node:path";
import type { Command } from "commander";
import { findPackage, ownCommand } from "./package.ts";

export function addLabInternals(group: Command): void {
  group
    .command("supervise", { hidden: true })
    .requiredOption("--name <name>")
    .action(async ({ name }: { name: string }) => {
      const { superviseLab } = await import("../lab/supervisor.ts");
      await superviseLab(name, ownCommand(), resolve(findPackage().root, "dist/hookline-cni.cjs"));
    });
  group
    .command("serve", { hidden: true })
    .argument("<name>", "what the servers call themselves")
    .argument("<address...>", "where UDP is answered")
    .action(async (name: string, addresses: string[]) => {
      const { announceReady, serveHttp, serveTcpEcho, serveUdpEcho } = await import("../lab/web-server.ts");
      const { SERVER_PORTS } = await import("../lab/plan.ts");
      await serveUdpEcho(name, addresses, SERVER_PORTS.udp);
      await serveTcpEcho(name, SERVER_PORTS.tcp);
      // Last: who is answered here may count on the others.
      await serveHttp(name, SERVER_PORTS.http);
      announceReady();
    });
}
