// SPDX-License-Identifier: Apache-2.0
// Codes of the maps layer: pins that are missing, are not ours, or do not fit the object.
import { defineFaults } from "../base/fault.ts";

export const faults = defineFaults({
  NOT_BPFFS: {
    text: (c) =>
      `${c.path} is not in a BPF file system: mount -t bpf bpf /sys/fs/bpf, or name another folder`,
  },
  NO_PIN: {
    text: (c) => `map ${c.name}: nothing is pinned at ${c.path}: is the agent running on this node?`,
  },
  PIN_MISMATCH: {
    text: (c) =>
      `map ${c.name} pinned at ${c.path} does not fit this version: ${c.why}. ` +
      `Start the version that made it, or lose its entries: rm ${c.path}`,
  },
  LAYOUT_CHANGED: {
    text: (c) =>
      `map ${c.name} pinned at ${c.path} was made by another release: ${c.why}. Flows cannot be carried over while packets use ` +
      "them: start that release again, or end all flows: stop the agent, run hookline cleanup, start this one",
  },
  NO_SLOT: { text: (c) => `map ${c.name} has no table in slot ${c.slot}`, retriable: true },
});
