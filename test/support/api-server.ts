// SPDX-License-Identifier: Apache-2.0
// The embedded API server in a process of its own, which tests can stop, kill and start again.
// Usage: api-server.ts RUN_DIR MANIFESTS   listens on RUN_DIR/api.sock
import { startEmbeddedApi } from "../../src/agent/embedded.ts";
import { createLog } from "../../src/base/log.ts";
import { announceReady } from "../../src/lab/web-server.ts";

const [runDir = "", manifests = ""] = process.argv.slice(2);
await startEmbeddedApi({ runDir, manifests, log: createLog("test", "error") });
announceReady();
