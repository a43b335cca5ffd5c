// SPDX-License-Identifier: Apache-2.0
// podman as Debian packages it, with its CNI backend and runc, confined to a folder and a network namespace of a test:
// storage, state, network configuration and root file system (static busybox) are all the test's own.
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentNode } from "./cni-node.ts";
import type { Finished } from "./netns.ts";

const TOOLS = { podman: "/usr/bin/podman", runc: "/usr/sbin/runc", busybox: "/bin/busybox" } as const;
const PACKAGES = { podman: "podman", runc: "runc", busybox: "busybox-static" } as const;

/** Names of the Debian packages that are missing for these tests. */
export function missingPackages(): string[] {
  const names = Object.keys(TOOLS) as (keyof typeof TOOLS)[];
  return names.filter((name) => !existsSync(TOOLS[name])).map((name) => PACKAGES[name]);
}

/** One podman for one node. */
export class Podman {
  readonly #node: AgentNode;
  readonly #dir: string;
  readonly #environment: Record<string, string | undefined>;
  readonly rootfs: string;

  constructor(node: AgentNode) {
    this.#node = node;
    this.#dir = join(node.world.dir, "podman");
    this.rootfs = join(this.#dir, "rootfs");
    for (const name of ["bin", "proc", "sys", "dev", "tmp", "etc", "run"]) {
      mkdirSync(join(this.rootfs, name), { recursive: true });
    }
    copyFileSync(TOOLS.busybox, join(this.rootfs, "bin/busybox"));
    for (const name of ["sh", "ip", "wget", "timeout", "sleep"])
      symlinkSync("busybox", join(this.rootfs, "bin", name));
    const configuration = join(this.#dir, "containers.conf");
    writeFileSync(
      configuration,
      [
        "[network]",
        'network_backend = "cni"',
        `cni_plugin_dirs = ["${node.cni.binDir}"]`,
        `network_config_dir = "${node.cni.confDir}"`,
        'default_network = "hookline"',
        "[engine]",
        'cgroup_manager = "cgroupfs"',
        'events_logger = "none"',
        'lock_type = "file"',
        `tmp_dir = "${join(this.#dir, "tmp")}"`,
        "",
      ].join("\n"),
    );
    this.#environment = {
      PATH: process.env.PATH,
      HOME: this.#dir,
      CONTAINERS_CONF: configuration,
      TMPDIR: this.#dir,
    };
  }

  /** Runs `podman <argv>` in the node's namespace. */
  podman(...argv: string[]): Promise<Finished> {
    const place = [
      "--root",
      join(this.#dir, "root"),
      "--runroot",
      join(this.#dir, "run"),
      "--runtime",
      "runc",
    ];
    return this.#node.world.run(this.#node.world.node, ["podman", ...place, ...argv], {
      env: this.#environment,
      timeoutMs: 60_000,
    });
  }

  /** `podman run` of the busybox root file system on our network. */
  run(options: readonly string[], command: readonly string[]): Promise<Finished> {
    // runc may not raise limits in a container host that has low ones itself.
    const limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    return this.podman(
      "run",
      ...limits,
      "--network",
      "hookline",
      ...options,
      "--rootfs",
      this.rootfs,
      ...command,
    );
  }
}
