// SPDX-License-Identifier: Apache-2.0
// Frames whose checksum is left to the device, as a stack hands them over, and what the device would make of them.
import type { Offload } from "./cable.ts";
import { onesSum, type Packet, pseudoSum } from "./packet.ts";
import { readShape } from "./packet-oracle.ts";
import type { Family } from "./transports.ts";

/** Offset of the transport header behind plain headers. */
export const L4: Readonly<Record<Family, number>> = { 4: 34, 6: 54 };
/** Offset of the checksum in the transport header. */
export const SUM_AT = { TCP: 16, UDP: 6 } as const;
/** Offload.gsoType. */
export const SEGMENTS = { TCP: { 4: 1, 6: 4 }, UDP: { 4: 5, 6: 5 } } as const;

/** Whether it is a test's: the devices' own discovery goes by on these cables too. */
export const isOurs = (frame: Uint8Array): boolean => {
  const { kind, protocol, v6, l4 } = readShape(frame);
  return kind !== "not-ip" && kind !== "link" && !(v6 && protocol === 58 && (frame[l4] ?? 0) > 129);
};

/** The packet as a stack hands it to a device that sums: the checksum field holds the sum of the pseudo-header. */
export function leftToDevice(
  packet: Packet,
  f: Family,
  name: "TCP" | "UDP",
): { frame: Uint8Array; offload: Partial<Offload> } {
  const frame = packet.bytes();
  const view = new DataView(frame.buffer);
  const { l4 } = readShape(frame);
  const [at, size] = f === 4 ? [26, 4] : [22, 16];
  const pseudo = pseudoSum(
    frame.subarray(at, at + size),
    frame.subarray(at + size, at + 2 * size),
    name === "TCP" ? 6 : 17,
    frame.length - l4,
  );
  view.setUint16(l4 + SUM_AT[name], pseudo);
  return { frame, offload: { sumFrom: l4, sumAt: SUM_AT[name] } };
}

/** What the device would send: the sum is made. */
export function summed(frame: Uint8Array, { sumFrom, sumAt }: Offload): Uint8Array {
  const bytes = frame.slice();
  const sum = ~onesSum(bytes.subarray(sumFrom)) & 0xffff;
  new DataView(bytes.buffer).setUint16(sumFrom + sumAt, sum || 0xffff);
  return bytes;
}
