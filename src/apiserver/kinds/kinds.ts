// SPDX-License-Identifier: Apache-2.0
// The built-in kinds, in the order in which discovery lists them.
import { DEFINITION } from "./definition.ts";
import type { Kind } from "./kind.ts";
import { NODE } from "./node.ts";
import { CONFIG_MAP, EVENT, LEASE, NAMESPACE, SECRET, SERVICE_ACCOUNT } from "./plain.ts";
import { POD } from "./pod.ts";
import { ENDPOINT_SLICE, SERVICE } from "./service.ts";

export const KINDS: readonly Kind[] = [
  CONFIG_MAP,
  EVENT,
  NAMESPACE,
  NODE,
  POD,
  SECRET,
  SERVICE,
  SERVICE_ACCOUNT,
  DEFINITION,
  LEASE,
  ENDPOINT_SLICE,
];
