// SPDX-License-Identifier: Apache-2.0
// The Kubernetes API in the agent's own process, for a host without Kubernetes: loaded from a folder of manifests, on a
// unix socket in the run directory. The agent then talks to it as to any other.
import { join } from "node:path";
import type { Log } from "../base/log.ts";

export interface EmbeddedApi {
  /** `unix:///run/hookline/api.sock`. */
  readonly address: string;
  /** What is wrong with the manifests, a line each. */
  faults(): string[];
  close(): Promise<void>;
}

/** Loaded only when needed: an agent in a cluster has no use for the server's code. */
export async function startEmbeddedApi(options: {
  runDir: string;
  manifests: string;
  log: Log;
}): Promise<EmbeddedApi> {
  const { startApiServer } = await import("../apiserver/server.ts");
  const { faultText } = await import("../apiserver/manifests/read.ts");
  const unixSocket = join(options.runDir, "api.sock");
  const server = await startApiServer({ unixSocket, manifestsDir: options.manifests, log: options.log });
  return {
    address: `unix://${unixSocket}`,
    faults: () => server.manifestFaults().map((fault) => faultText(fault)),
    close: () => server.close(),
  };
}
