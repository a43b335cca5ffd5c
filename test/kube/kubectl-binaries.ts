// SPDX-License-Identifier: Apache-2.0
// The kubectl programs that the tests of the API server run: the one on the PATH, and the one of Debian's package
// kubernetes-client, unpacked into a temporary folder where another package owns the name.
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Kubectl {
  /** For test names: `kubectl on the PATH`. */
  name: string;
  /** undefined when it cannot be had; `why` says the reason. */
  path: string | undefined;
  why: string;
}

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

async function installed(): Promise<Kubectl> {
  const name = "kubectl on the PATH";
  for (const folder of (process.env.PATH ?? "").split(":")) {
    const path = join(folder, "kubectl");
    if (folder && existsSync(path)) return { name, path, why: "" };
  }
  return { name, path: undefined, why: "no kubectl is installed" };
}

async function debian(folder: string): Promise<Kubectl> {
  const name = "Debian's kubernetes-client";
  try {
    const options = { cwd: folder, timeout: 120_000 };
    await run("apt-get", ["download", "kubernetes-client"], options).catch(async () => {
      await run("apt-get", ["update"], options);
      await run("apt-get", ["download", "kubernetes-client"], options);
    });
    const archive = readdirSync(folder).find((file) => file.endsWith(".deb"));
    if (!archive) return { name, path: undefined, why: "apt-get download left no package" };
    await run("dpkg", ["-x", archive, "unpacked"], options);
    return { name, path: join(folder, "unpacked/usr/bin/kubectl"), why: "" };
  } catch (thrown) {
    const { stderr, message } = thrown as { stderr?: string; message: string };
    const why = (stderr || message).trim().split("\n").at(-1) ?? "";
    return { name, path: undefined, why: `the package cannot be fetched: ${why}` };
  }
}

/** Both programs, and what removes the temporary folder. */
export async function kubectlBinaries(): Promise<{ binaries: Kubectl[]; remove: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), "hlt-kubectl-"));
  const binaries = await Promise.all([installed(), debian(folder)]);
  return { binaries, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Runs kubectl to its end; never throws. The server may live in this process, so nothing here blocks it. */
export function kubectl(
  path: string,
  kubeconfig: string,
  args: readonly string[],
  options: { input?: string; timeoutMs?: number } = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { PATH: process.env.PATH ?? "", HOME: join(kubeconfig, ".."), KUBECONFIG: kubeconfig };
    const child = execFile(
      path,
      [...args],
      { env, timeout: options.timeoutMs ?? 60_000 },
      (error, stdout, stderr) => {
        const code = error ? Number((error as { code?: number }).code ?? 1) : 0;
        resolve({ code, stdout, stderr });
      },
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
  });
}
