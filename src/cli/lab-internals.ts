// SPDX-License-Identifier: Apache-2.0
// Entry points of the lab's own processes, hidden from the help: the supervisor, a pod, the outside.
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
    .command("serve-pod", { hidden: true })
    .argument("<pod>")
    .action(async (pod: string) => {
      const { announceReady, serveHttp } = await import("../lab/web-server.ts");
      const { POD_PORT } = await import("../lab/plan.ts");
      await serveHttp(pod, POD_PORT);
      announceReady();
    });
  group
    .command("serve-outside", { hidden: true })
    .argument("<address...>")
    .action(async (addresses: string[]) => {
      const { announceReady, serveHttp, serveTcpEcho, serveUdpEcho } = await import("../lab/web-server.ts");
      const { OUTSIDE_PORTS } = await import("../lab/plan.ts");
      await serveHttp("outside", OUTSIDE_PORTS.http);
      await serveTcpEcho("outside", OUTSIDE_PORTS.tcpEcho);
      await serveUdpEcho("outside", addresses, OUTSIDE_PORTS.udpEcho);
      announceReady();
    });
}
