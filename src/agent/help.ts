// SPDX-License-Identifier: Apache-2.0
// The text of `hookline agent --help`, from the table of options.
import { OPTION_NAMES, OPTIONS, type Option } from "./options.ts";

const WIDTH = 100;
const INDENT = " ".repeat(6);

function wrap(text: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line.length + word.length + 1 > WIDTH - INDENT.length) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].map((l) => `${INDENT}${l}\n`).join("");
}

export function helpText(): string {
  const rows = OPTION_NAMES.map((name) => {
    const option = OPTIONS[name] as Option<unknown>;
    const fallback = option.default === "" ? "" : ` (default ${option.default})`;
    return `  --${name} ${option.type.name}${fallback}\n${wrap(option.text)}`;
  });
  return `Usage: hookline agent [options]

Runs the agent of one node until SIGTERM; the data plane stays attached when it ends.

Options. Those of the cluster may also stand in ConfigMap kube-system/cilium-config, in a
CiliumNetworkConfig and in CiliumNodeConfig objects; all in the environment as HOOKLINE_NAME.
A flag wins over the environment, and that over the cluster.

${rows.join("")}
Examples:
  hookline agent --manifests /etc/hookline/manifests   a host without Kubernetes
  hookline agent --manifests DIR --write-cni-conf-when-ready /etc/cni/net.d/05-hookline.conflist
                                                       the same, for a container runtime
  hookline agent --kubeconfig /etc/hookline/kubeconfig a node of a cluster
  hookline agent --run-dir /tmp/a --log-level debug    a second one, to look at
`;
}
