#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The CNI plugin's process: standard input and environment in, result or error object and exit status out.
import { readFileSync } from "node:fs";
import { runPlugin } from "../cni/plugin.ts";

function standardInput(): string {
  try {
    return readFileSync(0, "utf8");
  } catch {
    return "";
  }
}

runPlugin(process.env, standardInput()).then(({ stdout, exitCode }) => {
  process.exitCode = exitCode;
  if (stdout !== "") process.stdout.write(`${stdout}\n`);
});
