// SPDX-License-Identifier: Apache-2.0
// What the CNI plugin and the agent say to each other over the agent's socket: POST /v1/cni/{add,del,check,status,gc},
// JSON both ways. Types only, but for the error codes, so that the plugin's bundle stays small.

/** The network configuration as the runtime passes it. Unknown fields are kept and ignored. */
export interface CniConfig {
  readonly cniVersion: string;
  readonly name: string;
  readonly type: string;
  readonly [field: string]: unknown;
}

/** One container's interface, as runtimes list it for GC. */
export interface CniAttachment {
  readonly containerId: string;
  readonly ifName: string;
}

/** Body of every request. Fields that a command has no use for are empty. */
export interface CniRequest extends CniAttachment {
  /** Absolute path of the pod's network namespace; "" when the runtime did not pass it (DEL). */
  readonly netns: string;
  /** CNI_ARGS as pairs. */
  readonly args: Readonly<Record<string, string>>;
  /** K8S_POD_NAME of CNI_ARGS, or "". */
  readonly podName: string;
  /** K8S_POD_NAMESPACE of CNI_ARGS, or "". */
  readonly podNamespace: string;
  readonly config: CniConfig;
  /** Result of the plugin before us in the chain (ADD), or of our own ADD (CHECK, DEL), in the version of config. */
  readonly prevResult?: unknown;
  /** GC: everything of this network that the runtime still knows. */
  readonly validAttachments?: readonly CniAttachment[];
}

/** CNI error object without cniVersion; the answer to a request that failed, with an HTTP status over 399. */
export interface CniErrorBody {
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

/** Error codes of the CNI specification 1.1.0, section 5, and our own from 100. */
export const CniCode = {
  INCOMPATIBLE_VERSION: 1,
  UNSUPPORTED_FIELD: 2,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO_FAILURE: 5,
  DECODING_FAILURE: 6,
  INVALID_CONFIG: 7,
  TRY_AGAIN_LATER: 11,
  NOT_AVAILABLE: 50,
  LIMITED_CONNECTIVITY: 51,
  ADDRESSES_EXHAUSTED: 100,
  WIRING_FAILED: 101,
  CHECK_FAILED: 102,
} as const;

/** Versions of the specification whose configuration and result format we speak, lowest first. */
export const CNI_VERSIONS: readonly string[] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
