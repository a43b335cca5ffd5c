// SPDX-License-Identifier: Apache-2.0
// What the runtime asks for, from the CNI_* environment and the network configuration on standard input, checked as
// the specification demands before the agent hears of it. Pure. For the plugin.
import {
  isContainerId,
  isInterfaceName,
  isNetnsPath,
  isNetworkName,
  MAX_CONTAINER_ID,
} from "../api/cni-names.ts";
import {
  CNI_VERSIONS,
  type CniAttachment,
  CniCode,
  type CniConfig,
  type CniRequest,
} from "../api/cni-protocol.ts";
import { CniError } from "./errors.ts";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC" | "VERSION";

/** A checked call. `request` is what the agent gets; VERSION does without. */
export interface CniCall {
  readonly command: CniCommand;
  /** Version that the answer is in. */
  readonly cniVersion: string;
  readonly request: CniRequest;
  readonly runDir: string;
  readonly agentSocket: string;
  readonly logFile: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;
type Json = Readonly<Record<string, unknown>>;

const COMMANDS: readonly string[] = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"];
const LATEST = CNI_VERSIONS[CNI_VERSIONS.length - 1] as string;
const DEFAULT_RUN_DIR = "/run/hookline";

/** CHECK came with specification 0.4.0, GC and STATUS with 1.1.0. */
const SINCE: Readonly<Partial<Record<CniCommand, string>>> = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

function badEnvironment(details: string): CniError {
  return new CniError(CniCode.INVALID_ENVIRONMENT, "invalid environment", details);
}

function badConfig(details: string): CniError {
  return new CniError(CniCode.INVALID_CONFIG, "invalid network configuration", details);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The JSON object on standard input, {} if VERSION came without. */
function decode(stdin: string, command: CniCommand): Json {
  if (command === "VERSION" && stdin.trim() === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(stdin);
  } catch (thrown) {
    throw new CniError(
      CniCode.DECODING_FAILURE,
      "network configuration is not JSON",
      (thrown as Error).message,
    );
  }
  if (isObject(value)) return value;
  throw new CniError(CniCode.DECODING_FAILURE, "network configuration is not a JSON object");
}

/** The version to answer in: the configuration's if we speak it, else our latest. For errors and VERSION. */
export function answerVersion(stdin: string): string {
  try {
    const { cniVersion } = JSON.parse(stdin) as { cniVersion?: unknown };
    return typeof cniVersion === "string" && CNI_VERSIONS.includes(cniVersion) ? cniVersion : LATEST;
  } catch {
    return LATEST;
  }
}

/** CNI_COMMAND. @throws CniError 4 */
export function readCommand(env: Environment): CniCommand {
  const command = env.CNI_COMMAND ?? "";
  if (COMMANDS.includes(command)) return command as CniCommand;
  throw badEnvironment(`CNI_COMMAND is "${command}"; it must be one of ${COMMANDS.join(", ")}`);
}

function checkVersion(config: Json, command: CniCommand): string {
  const version = config.cniVersion;
  if (typeof version !== "string" || !CNI_VERSIONS.includes(version)) {
    throw new CniError(
      CniCode.INCOMPATIBLE_VERSION,
      "incompatible CNI version",
      `cniVersion is ${JSON.stringify(version) ?? "missing"}; supported are ${CNI_VERSIONS.join(", ")}`,
    );
  }
  const since = SINCE[command];
  if (since !== undefined && CNI_VERSIONS.indexOf(version) < CNI_VERSIONS.indexOf(since)) {
    throw new CniError(
      CniCode.INCOMPATIBLE_VERSION,
      "incompatible CNI version",
      `${command} needs cniVersion ${since} or later, the configuration says ${version}`,
    );
  }
  return version;
}

function optionalPath(config: Json, field: string): string | undefined {
  const value = config[field];
  if (value === undefined || value === "") return undefined;
  if (typeof value === "string" && value.startsWith("/")) return value;
  throw badConfig(`${field} is ${JSON.stringify(value)}; it must be an absolute path`);
}

function checkConfig(config: Json): CniConfig {
  const { name, type, ipam } = config;
  if (typeof name !== "string" || !isNetworkName(name)) {
    throw badConfig(
      `name is ${JSON.stringify(name) ?? "missing"}; letters, digits, "_", "." and "-" are allowed`,
    );
  }
  if (typeof type !== "string" || type === "") throw badConfig("type is missing");
  if (isObject(ipam) && typeof ipam.type === "string" && ipam.type !== "") {
    throw new CniError(
      CniCode.UNSUPPORTED_FIELD,
      "unsupported field in the network configuration",
      `ipam.type is "${ipam.type}"; addresses come from the node's pod CIDRs, remove ipam`,
    );
  }
  return config as CniConfig;
}

function checkContainer(env: Environment): CniAttachment {
  const containerId = env.CNI_CONTAINERID ?? "";
  if (!isContainerId(containerId)) {
    throw badEnvironment(
      `CNI_CONTAINERID is "${containerId}"; it must have 1 to ${MAX_CONTAINER_ID} letters, digits, "_", "." or "-", the first a letter or digit`,
    );
  }
  const ifName = env.CNI_IFNAME ?? "";
  if (!isInterfaceName(ifName)) {
    throw badEnvironment(`CNI_IFNAME is "${ifName}"; it is not a valid interface name`);
  }
  return { containerId, ifName };
}

function checkNetns(env: Environment, command: CniCommand): string {
  const netns = env.CNI_NETNS ?? "";
  if (netns === "" && command === "DEL") return "";
  if (isNetnsPath(netns)) return netns;
  throw badEnvironment(`CNI_NETNS is "${netns}"; it must be an absolute path`);
}

/** CNI_ARGS: `KEY=value;KEY=value`. @throws CniError 4 */
export function readArgs(text: string): Record<string, string> {
  const args: Record<string, string> = {};
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    if (at < 1) throw badEnvironment(`CNI_ARGS: "${pair}" is not KEY=value`);
    args[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return args;
}

/** libcni before 1.2.1 named the list cni.dev/attachments; it sends both names since. */
function validAttachments(config: Json): CniAttachment[] {
  const list = config["cni.dev/valid-attachments"] ?? config["cni.dev/attachments"];
  if (!Array.isArray(list)) throw badConfig("cni.dev/valid-attachments is missing or not a list");
  return list.map((item: unknown, i) => {
    const { containerID, ifname } = isObject(item) ? item : {};
    if (typeof containerID === "string" && typeof ifname === "string")
      return { containerId: containerID, ifName: ifname };
    throw badConfig(`cni.dev/valid-attachments[${i}] needs containerID and ifname`);
  });
}

/**
 * Everything that the specification lets us check without the agent.
 * @throws CniError 1, 2, 4, 6, 7
 */
export function readCall(env: Environment, stdin: string): CniCall {
  const command = readCommand(env);
  const raw = decode(stdin, command);
  const empty = { containerId: "", ifName: "", netns: "", args: {}, podName: "", podNamespace: "" };
  if (command === "VERSION") {
    const config: CniConfig = { cniVersion: LATEST, name: "", type: "" };
    const request = { ...empty, config };
    return {
      command,
      cniVersion: answerVersion(stdin),
      request,
      runDir: "",
      agentSocket: "",
      logFile: undefined,
    };
  }
  const cniVersion = checkVersion(raw, command);
  const config = checkConfig(raw);
  const runDir = optionalPath(raw, "runDir") ?? DEFAULT_RUN_DIR;
  const base = {
    command,
    cniVersion,
    runDir,
    agentSocket: optionalPath(raw, "agentSocket") ?? `${runDir}/agent.sock`,
    logFile: optionalPath(raw, "logFile"),
  };
  if (command === "STATUS") return { ...base, request: { ...empty, config } };
  if (command === "GC") {
    return { ...base, request: { ...empty, config, validAttachments: validAttachments(raw) } };
  }
  const args = readArgs(env.CNI_ARGS ?? "");
  const { prevResult } = raw;
  if (prevResult !== undefined && prevResult !== null && !isObject(prevResult)) {
    throw badConfig("prevResult is not an object");
  }
  if (command === "CHECK" && !isObject(prevResult)) throw badConfig("prevResult is missing; CHECK needs it");
  const request: CniRequest = {
    ...checkContainer(env),
    netns: checkNetns(env, command),
    args,
    podName: args.K8S_POD_NAME ?? "",
    podNamespace: args.K8S_POD_NAMESPACE ?? "",
    config,
    ...(isObject(prevResult) ? { prevResult } : {}),
  };
  return { ...base, request };
}
