// SPDX-License-Identifier: Apache-2.0
// Addresses that go, for good or for a moment.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Counting, OwnAddresses, RETURN_MS } from "./own-addresses.ts";

const V4 = "192.0.2.1";
const V6 = "2001:db8::1";

/** Updates one after the other: what the node has, as `address device`, which devices there are, and when. */
function story(
  ...moments: (readonly [has: readonly string[], devices: readonly number[], atMs: number])[]
): string[] {
  const own = new OwnAddresses();
  return moments.map(([has, devices, atMs]) => {
    const addresses = new Map(has.map((text) => [text.split(" ")[0] ?? "", Number(text.split(" ")[1])]));
    const { addresses: counting, lost }: Counting = own.update(
      { addresses, devices: new Set(devices) },
      atMs,
    );
    return `${[...counting.keys()].join(" ")}${lost ? " lost" : ""}`;
  });
}

test("at the start something may have been lost, then nothing", () => {
  assert.deepEqual(story([[`${V4} 2`], [2], 0], [[`${V4} 2`], [2], 1]), [`${V4} lost`, V4]);
});

test("an address that another one of its family replaces stops to count at once, one of a device that is gone too", () => {
  const before = [[`${V4} 2`, `${V6} 2`], [2], 0] as const;
  assert.equal(story(before, [["192.0.2.2 2", `${V6} 2`], [2], 1])[1], `192.0.2.2 ${V6} lost`);
  assert.equal(story(before, [[], [], 1])[1], " lost");
});

test("the last address of a family counts on for a while, and goes on if it comes back", () => {
  const up = [`${V4} 2`, `${V6} 2`];
  const down = [`${V4} 2`];
  const flapping = story(
    [up, [2], 0],
    [down, [2], 10],
    [up, [2], 20],
    [down, [2], RETURN_MS],
    [down, [2], RETURN_MS + 10],
  );
  assert.deepEqual(flapping.slice(1), Array(4).fill(`${V4} ${V6}`));
  const gone = story([up, [2], 0], [down, [2], 10], [down, [2], RETURN_MS + 10], [down, [2], RETURN_MS + 20]);
  assert.deepEqual(gone.slice(1), [`${V4} ${V6}`, `${V4} lost`, V4]);
});

test("an address that moves to another device counts all the time", () => {
  assert.deepEqual(story([[`${V4} 2`], [2, 3], 0], [[`${V4} 3`], [2, 3], 1]).slice(1), [V4]);
});
