// SPDX-License-Identifier: Apache-2.0
// Chance that is the same in every run, for tests and benchmarks: what fails once fails again.

/** 0 <= x < 1, always the same sequence for a seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** All ports from `first` to `last`, each once, in random order. */
export function shuffledPorts(first: number, last: number, random: () => number): number[] {
  const ports = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  for (let i = ports.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [ports[i], ports[j]] = [ports[j] as number, ports[i] as number];
  }
  return ports;
}
