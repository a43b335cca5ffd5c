#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The agent without the command line around it, for images that hold nothing else.
import { agentMain } from "../api/agent-main.ts";
import { Fault } from "../base/fault.ts";

try {
  process.exitCode = await agentMain(process.argv.slice(2));
} catch (thrown) {
  const fault = Fault.from(thrown);
  process.stderr.write(`hookline agent: ${fault.detail}\n`);
  process.exitCode = fault.exitCode;
}
