// SPDX-License-Identifier: Apache-2.0
// Endpoints on disk, one JSON file each in <stateDir>/endpoints, so that a restart knows every pod of the node. A file is
// written before anything is made for the pod, so that a crash in between leaves nothing that nobody knows of.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { parseAddress } from "../../base/addr.ts";
import { Fault } from "../../base/fault.ts";
import { faults } from "./faults.ts";
import type { Endpoint } from "./spec.ts";

const address = z.string().transform((text, context) => {
  try {
    return parseAddress(text);
  } catch {
    context.addIssue({ code: "custom", message: `"${text}": not an address` });
    return z.NEVER;
  }
});
const mac = z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
const schema = z.object({
  id: z.int().min(1).max(65535),
  containerId: z.string().min(1),
  ifName: z.string().min(1).max(15),
  netns: z.string(),
  network: z.string(),
  podNamespace: z.string(),
  podName: z.string(),
  podUid: z.string(),
  ipv4: z.exactOptional(address),
  ipv6: z.exactOptional(address),
  mtu: z.int().min(68).max(65535),
  device: z.string().regex(/^hl[0-9a-f]{10}$/),
  ifindex: z.int().min(0),
  mac: z.union([mac, z.literal("")]),
  hostMac: z.union([mac, z.literal("")]),
  identity: z.int().min(0),
  createdAt: z.string(),
});

/** The folder of endpoint files. */
export class EndpointFiles {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "endpoints");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  #path(id: number): string {
    return join(this.#dir, `${id}.json`);
  }

  save(endpoint: Endpoint): void {
    const path = this.#path(endpoint.id);
    writeFileSync(`${path}.new`, `${JSON.stringify(endpoint, null, 1)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  remove(id: number): void {
    rmSync(this.#path(id), { force: true });
  }

  /** All endpoints that can be read, and a fault for each file that cannot; those files stay where they are. */
  load(): { endpoints: Endpoint[]; faults: Fault[] } {
    const endpoints: Endpoint[] = [];
    const found: Fault[] = [];
    for (const name of readdirSync(this.#dir).filter((n) => /^\d+\.json$/.test(n))) {
      const file = join(this.#dir, name);
      try {
        const endpoint = schema.parse(JSON.parse(readFileSync(file, "utf8")));
        if (name !== `${endpoint.id}.json`) throw new Error(`it is of endpoint ${endpoint.id}`);
        endpoints.push(endpoint);
      } catch (thrown) {
        const issue = thrown instanceof z.ZodError ? thrown.issues[0] : undefined;
        const why = issue ? `${issue.path.join(".")}: ${issue.message}` : Fault.from(thrown).detail;
        found.push(faults.ENDPOINT_STATE({ file, why }, thrown));
      }
    }
    return { endpoints: endpoints.sort((a, b) => a.id - b.id), faults: found };
  }
}
