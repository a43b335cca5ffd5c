// SPDX-License-Identifier: Apache-2.0
// Debian's kernels for tests: asks apt, with package lists of its own in build/kernels, for the newest cloud image of a
// release, and unpacks it there. Nothing is installed, and the machine's own lists and sources stay as they are.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** One kernel that the tests run on. */
export interface KernelChoice {
  /** What the user calls it. */
  series: string;
  release: string;
  /** Lines of a sources.list, without `deb` and options. */
  sources: readonly string[];
  /** Older than what Hookline needs: only that it says so is tested. */
  tooOld?: boolean;
}

const MIRROR = "http://deb.debian.org";

/** Kernels of Debian's releases, oldest first. */
export const KERNELS: readonly KernelChoice[] = [
  { series: "5.10", release: "Debian 11", sources: [`${MIRROR}/debian bullseye main`], tooOld: true },
  {
    series: "6.1",
    release: "Debian 12",
    sources: [`${MIRROR}/debian bookworm main`, `${MIRROR}/debian-security bookworm-security main`],
  },
  {
    series: "6.12",
    release: "Debian 13",
    sources: [`${MIRROR}/debian trixie main`, `${MIRROR}/debian-security trixie-security main`],
  },
];

/** An unpacked kernel package. */
export interface Kernel {
  choice: KernelChoice;
  /** Name and version of the package. */
  package: string;
  /** The boot image. */
  image: string;
  /** The folder of its modules. */
  modules: string;
}

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const META = "linux-image-cloud-amd64";

function run(command: string, args: readonly string[], cwd?: string): string {
  const env = { ...process.env, LC_ALL: "C" };
  const done = spawnSync(command, args, { cwd, env, encoding: "utf8", maxBuffer: 1 << 28 });
  if (done.status === 0) return done.stdout;
  const said = `${done.stderr ?? ""}${done.error?.message ?? ""}`.split("\n");
  const why = said.find((line) => line.startsWith("E: ")) ?? said.find((line) => line.trim() !== "") ?? "";
  throw new Error(`${command} ${args.at(-1)}: ${why.trim()}`);
}

/** apt's options for lists and sources of our own. */
function ownApt(folder: string, choice: KernelChoice): string[] {
  if (!existsSync(KEYRING)) throw new Error(`${KEYRING} is missing (package debian-archive-keyring)`);
  for (const name of ["lists/partial", "cache/archives/partial", "deb"]) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  const lines = choice.sources.map((source) => `deb [arch=amd64 signed-by=${KEYRING}] ${source}\n`);
  writeFileSync(join(folder, "sources.list"), lines.join(""));
  const options = {
    "Dir::Etc::sourcelist": join(folder, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::State::lists": join(folder, "lists"),
    "Dir::Cache": join(folder, "cache"),
    "APT::Architecture": "amd64",
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    "Acquire::Retries": "1",
  };
  return ["-q", ...Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
}

/** Downloads the newest package of the release and unpacks it beside the lists. */
function fetchKernel(folder: string, choice: KernelChoice): void {
  const apt = ownApt(folder, choice);
  run("apt-get", [...apt, "--error-on=any", "update"]);
  const shown = run("apt-cache", [...apt, "--no-all-versions", "show", META]);
  const name = /^Depends: (linux-image-\S+)/m.exec(shown)?.[1];
  if (name === undefined) throw new Error(`${choice.release} has no package ${META}`);
  run("apt-get", [...apt, "download", name], join(folder, "deb"));
  const file = readdirSync(join(folder, "deb")).find((entry) => entry.endsWith(".deb"));
  const draft = join(folder, "draft");
  rmSync(draft, { recursive: true, force: true });
  run("dpkg", ["-x", join(folder, "deb", file ?? ""), draft]);
  writeFileSync(join(draft, "package"), (file ?? "").replace(/_amd64\.deb$/, "").replace("_", " "));
  rmSync(join(folder, "root"), { recursive: true, force: true });
  renameSync(draft, join(folder, "root"));
  for (const name of ["deb", "lists", "cache"]) rmSync(join(folder, name), { recursive: true });
}

/**
 * The unpacked kernel of a choice, fetched if it is not there yet or `fresh` asks for the newest.
 * @throws Error in one line if it cannot be had
 */
export function getKernel(cache: string, choice: KernelChoice, fresh = false): Kernel {
  const folder = join(cache, choice.series);
  const root = join(folder, "root");
  if (fresh || !existsSync(root)) fetchKernel(folder, choice);
  const image = readdirSync(join(root, "boot")).find((name) => name.startsWith("vmlinuz-"));
  const libraries = [join(root, "lib/modules"), join(root, "usr/lib/modules")].find((path) =>
    existsSync(path),
  );
  if (image === undefined || libraries === undefined) throw new Error(`${root} holds no kernel`);
  return {
    choice,
    package: readFileSync(join(root, "package"), "utf8"),
    image: join(root, "boot", image),
    modules: join(libraries, readdirSync(libraries)[0] ?? ""),
  };
}
