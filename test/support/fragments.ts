// SPDX-License-Identifier: Apache-2.0
// A datagram cut into fragments, as frames, and the orders in which a network may bring them. Checksums are those of the whole.
import type { Packet } from "./packet.ts";
import type { Family } from "./transports.ts";

/** Whose datagram it is, and on what link it is sent. */
export interface Envelope {
  readonly link: Packet;
  readonly src: string;
  readonly dst: string;
  /** Default 64. */
  readonly ttl?: number;
  /** Identification of the datagram. */
  readonly id: number;
}

const HEADER: Record<Family, number> = { 4: 20, 6: 40 };
const ETHERNET = 14;

/**
 * The datagram's fragments, first to last. `datagram` puts transport header and payload on an IP header; `size`: bytes of each
 * but the last, a multiple of 8.
 */
export function cut(
  family: Family,
  { link, src, dst, ttl = 64, id }: Envelope,
  datagram: (ip: Packet) => Packet,
  size: number,
): Uint8Array[] {
  const whole = datagram(link.ip({ src, dst, ttl })).bytes();
  const protocol = whole[ETHERNET + (family === 4 ? 9 : 6)] ?? 0;
  const body = whole.subarray(ETHERNET + HEADER[family]);
  return Array.from({ length: Math.ceil(body.length / size) }, (_, n) => {
    const part = body.subarray(n * size, (n + 1) * size);
    const [offset, more] = [n * size, (n + 1) * size < body.length];
    if (family === 4)
      return link.ipv4({ src, dst, ttl, id, mf: more, df: false, offset, protocol }).payload(part).bytes();
    return link
      .ipv6({ src, dst, hopLimit: ttl })
      .fragment6({ id, offset, more, next: protocol })
      .payload(part)
      .bytes();
  });
}

/** Every order of so many things. */
export function orders(count: number): number[][] {
  if (count === 1) return [[0]];
  return orders(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => [...order.slice(0, at), count - 1, ...order.slice(at)]),
  );
}

/** Whether a frame is one of the datagram: its type, identification and destination. */
export const isOf = (frame: Uint8Array, like: Uint8Array, f: Family): boolean =>
  (f === 4
    ? [
        [12, 14],
        [18, 20],
        [30, 34],
      ]
    : [
        [12, 14],
        [58, 62],
        [38, 54],
      ]
  ).every((at) => Buffer.compare(frame.subarray(...at), like.subarray(...at)) === 0);

/** What waits has a second. */
const HELD_MS = 900;
/** For waits of an attempt: behind that it is late. */
export const SOON = { timeoutMs: HELD_MS, intervalMs: 1 };

/** A failed attempt that the machine has drawn out for longer than a fragment waits says nothing, and is made anew. */
export async function inTime(attempt: () => void | Promise<void>): Promise<void> {
  for (let again = 5; ; again--) {
    const start = performance.now();
    try {
      return await attempt();
    } catch (thrown) {
      if (again === 0 || performance.now() - start < HELD_MS) throw thrown;
    }
  }
}
