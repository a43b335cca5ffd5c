// SPDX-License-Identifier: Apache-2.0
// Codes of the sources: an API server that refuses or is away, objects and documents that cannot be used.
import { defineFaults } from "../base/fault.ts";

export const faults = defineFaults({
  API_UNREACHABLE: { text: (c) => `${c.server}: ${c.why}`, retriable: true, exitCode: 4 },
  API_STATUS: { text: (c) => `${c.method} ${c.path}: ${c.status} ${c.why}`, retriable: true, exitCode: 4 },
  API_ANSWER: {
    text: (c) => `${c.method} ${c.path}: the answer is not a JSON object: ${c.why}`,
    retriable: true,
  },
  API_ADDRESS: { text: (c) => `api "${c.api}": ${c.why}`, exitCode: 2 },
  OBJECT_INVALID: { text: (c) => `${c.object} ${c.path}: ${c.why}` },
  DOCUMENT_INVALID: { text: (c) => `${c.origin}${c.path === "" ? "" : ` ${c.path}`}: ${c.why}` },
  ENTRY_REFUSED: { text: (c) => `${c.origin}${c.path === "" ? "" : ` ${c.path}`}: "${c.value}": ${c.why}` },
});
