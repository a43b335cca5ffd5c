// SPDX-License-Identifier: Apache-2.0
// Codes of the base layer: text that is no address or prefix, time that ran out.
import { defineFaults } from "./fault.ts";

export const faults = defineFaults({
  ADDRESS_SYNTAX: { text: (c) => `"${c.text}": not an IPv4 or IPv6 address` },
  PREFIX_SYNTAX: { text: (c) => `"${c.text}": ${c.why}` },
  TIMEOUT: { text: (c) => `${c.what}: no answer within ${c.timeoutMs} ms`, retriable: true },
});
