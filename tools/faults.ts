// SPDX-License-Identifier: Apache-2.0
// Codes of the build and check tools: what is missing on the machine, what a source file may not hold.
import { defineFaults } from "../src/base/fault.ts";

export const faults = defineFaults({
  TOOL_MISSING: { text: (c) => `${c.tool} is not installed; ${c.remedy}` },
  TOOL_FAILED: { text: (c) => `${c.command} failed (${c.status}):\n${c.output}` },
  ABI_REFUSED: { text: (c) => `${c.where}: ${c.why}` },
  ABI_INCOMPLETE: { text: (c) => `${c.what}: ${c.why}` },
  BUNDLE: { text: (c) => `${c.entry}: ${c.why}` },
  SYNTAX: { text: (c) => `${c.path}: ${c.message}` },
});
