// SPDX-License-Identifier: Apache-2.0
// One test machine: QEMU with software emulation (no /dev/kvm is asked for), a kernel and an initramfs, two serial
// ports: the kernel's console goes to a file, the lines of test/kernels/inside.ts come to us. A machine that is silent
// for too long is stopped.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Line } from "../../test/kernels/inside.ts";

export const QEMU = "qemu-system-x86_64";

export interface MachineOptions {
  kernel: string;
  initramfs: string;
  /** File for the kernel's messages. */
  console: string;
  timeoutMs: number;
}

const MEMORY_MIB = 1536;
/** Two: maps per processor, and claims that race, are part of what is tested. */
const PROCESSORS = 2;

/** No machine comes up again: a panic ends QEMU. */
const COMMAND_LINE = "console=ttyS0 rdinit=/init quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on";

function flags(options: MachineOptions): string[] {
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", `${PROCESSORS}`, "-m", `${MEMORY_MIB}`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-kernel", options.kernel, "-initrd", options.initramfs, "-append", COMMAND_LINE],
    ...["-serial", `file:${options.console}`, "-serial", "stdio"],
  ];
}

/** The last lines of the kernel's messages. */
function consoleTail(path: string, lines = 15): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "no console";
  }
}

/** QEMUs that run, so that an interrupt can end them. */
const running = new Set<ReturnType<typeof spawn>>();

/** Stops every machine. */
export function stopMachines(): void {
  for (const child of running) child.kill("SIGKILL");
}

/**
 * Boots a machine, hands its lines on as they come, and waits for its end.
 * @returns undefined if it ended by itself after its last line, else what went wrong and the kernel's last messages
 */
export async function runMachine(
  options: MachineOptions,
  heard: (line: Line) => void,
): Promise<string | undefined> {
  const child = spawn(QEMU, flags(options), { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let [trouble, complaint]: (string | undefined)[] = ["it ended before its tests did", ""];
  const timer = setTimeout(() => {
    trouble = `stopped: not done after ${options.timeoutMs / 1000} s`;
    child.kill("SIGKILL");
  }, options.timeoutMs);
  child.stderr.on("data", (data) => {
    complaint += data;
  });
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (text) => {
    if (!text.startsWith("{")) return;
    const line = JSON.parse(text) as Line;
    if (!("end" in line)) return heard(line);
    trouble = line.end === 0 ? undefined : `its program ended with ${line.end}`;
  });
  await new Promise<void>((done) => {
    child.once("error", (error) => {
      trouble = error.message;
      done();
    });
    child.once("close", () => done());
  });
  clearTimeout(timer);
  running.delete(child);
  return trouble === undefined ? undefined : `${trouble}\n${complaint}${consoleTail(options.console)}`;
}
