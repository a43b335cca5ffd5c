// SPDX-License-Identifier: Apache-2.0
// Codes of the loader: an object that does not open, does not load, or was built from another ABI.
import { defineFaults } from "../base/fault.ts";

export const faults = defineFaults({
  OBJECT_MISSING: { text: (c) => `${c.path}: ${c.why}: build it with npm run build` },
  OBJECT_LAYOUT: { text: (c) => `${c.path} was built from another ABI: ${c.why}` },
  OBJECT_REFUSED: { text: (c) => `${c.path}: ${c.errno}: ${c.why}` },
  KERNEL_LACKS: { text: (c) => `the data plane cannot run here: ${c.why}` },
  VERIFIER: {
    text: (c) =>
      `the kernel refuses program ${c.program}: ${c.line}${c.source ? ` at "${c.source}"` : ""}; the full log is in ${c.file}`,
  },
  SWEEP_FAILED: { text: (c) => `sweep ended with ${c.retval}`, retriable: true },
  FLUSH_FAILED: { text: (c) => `flush ended with ${c.retval}`, retriable: true },
  FLUSH_HELD: {
    text: (c) =>
      `${c.left} flows could not be ended: they have been on their way to a larger table for too long`,
    retriable: true,
  },
  NO_PROGRAM: {
    text: (c) =>
      `program ${c.name}: nothing is pinned at ${c.path}: the data plane there was loaded by another release: start the agent of this one`,
  },
});
