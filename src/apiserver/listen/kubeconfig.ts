// SPDX-License-Identifier: Apache-2.0
// The kubeconfig of a TCP endpoint: server, CA and token, in a file that only its owner can read.
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { stringify } from "yaml";

/** Writes the file whole or not at all, mode 0600. */
export function writeKubeconfig(path: string, endpoint: { server: string; ca: string; token: string }): void {
  const { server, ca, token } = endpoint;
  const name = "hookline";
  const text = stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name, cluster: { server, "certificate-authority-data": Buffer.from(ca).toString("base64") } },
    ],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name, namespace: "default" } }],
    "current-context": name,
  });
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const half = `${path}.${process.pid}.new`;
  try {
    writeFileSync(half, text, { mode: 0o600, flag: "wx" });
    chmodSync(half, 0o600);
    renameSync(half, path);
  } finally {
    rmSync(half, { force: true });
  }
}
