// SPDX-License-Identifier: Apache-2.0
// Which names a container runtime may pass. They become parts of file names, device names and API paths, so the plugin
// checks them for the runtime's sake and the agent, who believes nobody, again.

/** Longest container id: its file name in the queue of deletes has at most 255 bytes. */
export const MAX_CONTAINER_ID = 200;
const MAX_POD_NAME = 253;

const WORD = /^[A-Za-z0-9][\w.-]*$/;

export function isContainerId(text: string): boolean {
  return WORD.test(text) && text.length <= MAX_CONTAINER_ID;
}

/** The kernel's own rules (dev_valid_name): under 16 bytes, no "/", ":" or white space, not "." or "..". */
export function isInterfaceName(text: string): boolean {
  return /^[^\s/:\0]{1,15}$/.test(text) && Buffer.byteLength(text) <= 15 && text !== "." && text !== "..";
}

/** A pod or a namespace; runtimes without Kubernetes pass the container's name, which may hold "_" and capitals. */
export function isPodName(text: string): boolean {
  return WORD.test(text) && text.length <= MAX_POD_NAME;
}

/** `name` of a network configuration. */
export function isNetworkName(text: string): boolean {
  return WORD.test(text) && text.length <= 255;
}

/** Absolute, and short enough for the kernel. */
export function isNetnsPath(text: string): boolean {
  return text.startsWith("/") && !text.includes("\0") && Buffer.byteLength(text) < 4096;
}
