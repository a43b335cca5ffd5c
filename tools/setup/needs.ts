// SPDX-License-Identifier: Apache-2.0
// What the project needs from the distribution: for each thing how to see that it is there (files only, no process is
// started), the packages that bring it, and for whom it is needed.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** `lab` builds and runs; `test` runs the tests on top of that; on top of both, `kernels` runs those on other kernels and
 * `bench` the benchmarks. */
export type Purpose = "lab" | "test" | "kernels" | "bench";

/** One thing that must be on the machine. */
export interface Need {
  name: string;
  why: string;
  for: Purpose;
  /** Choices, best first; each is a list of packages that brings it. */
  packages: readonly (readonly string[])[];
  present: (machine: Machine) => boolean;
  /** Without it something is left out; the text says what. */
  optional?: string;
}

/** The questions that needs ask. */
export interface Machine {
  /** Whether some folder of programs holds a file with a matching name. */
  program: (name: RegExp) => boolean;
  file: (path: string) => boolean;
  /** Whether the shared library lies in one of the system's folders. */
  library: (soname: string) => boolean;
}

const PROGRAMS = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
const LIBRARIES = ["/usr/lib", "/lib", "/usr/lib64", "/lib64", "/usr/local/lib"];

function listing(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** This machine. Folders are read once. */
export function thisMachine(): Machine {
  const folders = [...new Set([...(process.env.PATH ?? "").split(":"), ...PROGRAMS])].filter(
    (path) => path !== "",
  );
  const programs = new Set(folders.flatMap(listing));
  const libraries = LIBRARIES.flatMap((folder) => [
    folder,
    ...listing(folder)
      .filter((entry) => entry.includes("-linux-"))
      .map((entry) => join(folder, entry)),
  ]);
  return {
    program: (name) => [...programs].some((entry) => name.test(entry)),
    file: existsSync,
    library: (soname) => libraries.some((folder) => existsSync(join(folder, soname))),
  };
}

const program = (name: RegExp) => (machine: Machine) => machine.program(name);
const file = (path: string) => (machine: Machine) => machine.file(path);

/** A plain `clang` may be too old; findClang() asks it when it is used. */
const CLANG = /^clang(-(1[4-9]|[2-9]\d))?$/;

/** Everything, in the order of installation. */
export const NEEDS: readonly Need[] = [
  {
    name: "clang",
    why: "compiles the data plane",
    for: "lab",
    packages: [["clang-19"], ["clang-18"], ["clang"]],
    present: program(CLANG),
  },
  {
    name: "llvm-strip",
    why: "strips the data plane's object",
    for: "lab",
    packages: [["llvm-19"], ["llvm-18"], ["llvm"]],
    present: program(/^llvm-strip(-\d+)?$/),
  },
  {
    name: "libbpf",
    why: "loads the data plane",
    for: "lab",
    packages: [["libbpf1"], ["libbpf1t64"]],
    present: (machine) => machine.library("libbpf.so.1"),
  },
  {
    name: "bpf_helpers.h",
    why: "headers of the data plane",
    for: "lab",
    packages: [["libbpf-dev"]],
    present: file("/usr/include/bpf/bpf_helpers.h"),
  },
  {
    name: "linux/bpf.h",
    why: "headers of the data plane",
    for: "lab",
    packages: [["linux-libc-dev"]],
    present: file("/usr/include/linux/bpf.h"),
  },
  { name: "ip", why: "network commands", for: "lab", packages: [["iproute2"]], present: program(/^ip$/) },
  { name: "curl", why: "HTTP from pods", for: "lab", packages: [["curl"]], present: program(/^curl$/) },
  {
    name: "ping",
    why: "ICMP from pods",
    for: "lab",
    packages: [["iputils-ping"]],
    present: program(/^ping$/),
  },
  {
    name: "bpftool",
    why: "reads BTF for generated code",
    for: "test",
    packages: [["bpftool"], ["linux-tools-common", "linux-tools-generic"]],
    present: program(/^bpftool$/),
  },
  {
    name: "iptables",
    why: "masquerading by iptables (enable-bpf-masquerade: false)",
    for: "lab",
    packages: [["iptables"]],
    present: program(/^iptables$/),
  },
  {
    name: "ipset",
    why: "masquerading by iptables (enable-bpf-masquerade: false)",
    for: "lab",
    packages: [["ipset"]],
    present: program(/^ipset$/),
  },
  {
    name: "traceroute",
    why: "tests of ICMP errors",
    for: "test",
    packages: [["traceroute"]],
    present: program(/^traceroute/),
  },
  {
    name: "tracepath",
    why: "tests of path MTU discovery",
    for: "test",
    packages: [["iputils-tracepath"]],
    present: program(/^tracepath$/),
  },
  {
    name: "ethtool",
    why: "tests without offloads",
    for: "test",
    packages: [["ethtool"]],
    present: program(/^ethtool$/),
  },
  {
    name: "kubectl",
    why: "tests of the API server",
    for: "test",
    packages: [["kubernetes-client"]],
    present: program(/^kubectl$/),
    optional: "tests with kubectl are left out; install kubectl to run them",
  },
  {
    name: "podman",
    why: "tests of the CNI plugin",
    for: "test",
    packages: [["podman"]],
    present: program(/^podman$/),
  },
  {
    name: "runc",
    why: "tests of the CNI plugin",
    for: "test",
    packages: [["runc"]],
    present: program(/^runc$/),
  },
  {
    name: "CNI loopback plugin",
    why: "tests of the CNI plugin",
    for: "test",
    packages: [["containernetworking-plugins"]],
    present: (machine) => machine.file("/usr/lib/cni/loopback") || machine.file("/opt/cni/bin/loopback"),
  },
  {
    name: "static busybox",
    why: "root folder of test containers",
    for: "test",
    packages: [["busybox-static"]],
    present: program(/^busybox$/),
  },
  {
    name: "qemu-system-x86_64",
    why: "tests on other kernels",
    for: "kernels",
    packages: [["qemu-system-x86"]],
    present: program(/^qemu-system-x86_64$/),
    optional: "tests on other kernels are left out; install qemu-system-x86_64 to run them",
  },
  {
    name: "Debian's archive keys",
    why: "fetching kernels for tests",
    for: "kernels",
    packages: [["debian-archive-keyring"]],
    present: file("/usr/share/keyrings/debian-archive-keyring.gpg"),
    optional: "tests on other kernels are left out",
  },
  {
    name: "sockperf",
    why: "round trips and packets of benchmarks",
    for: "bench",
    packages: [["sockperf"]],
    present: program(/^sockperf$/),
  },
  {
    name: "iperf3",
    why: "bulk traffic of benchmarks",
    for: "bench",
    packages: [["iperf3"]],
    present: program(/^iperf3$/),
  },
  {
    name: "nft",
    why: "benchmarks beside nftables",
    for: "bench",
    packages: [["nftables"]],
    present: program(/^nft$/),
  },
];

/** What each purpose takes in; any other name means what `test` means. */
const TAKES_IN: Record<string, readonly Purpose[]> = {
  lab: ["lab"],
  kernels: ["lab", "test", "kernels"],
  bench: ["lab", "test", "bench"],
};

/** What is missing for a purpose; `all` and `test` mean all but benchmarks and tests on other kernels. */
export function missing(purpose: string, machine: Machine, needs: readonly Need[] = NEEDS): Need[] {
  const purposes = TAKES_IN[purpose] ?? ["lab", "test"];
  return needs.filter((need) => purposes.includes(need.for) && !need.present(machine));
}
