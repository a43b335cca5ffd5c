// SPDX-License-Identifier: Apache-2.0
// One map of the data plane under test, its keys and values by the generated codecs; without the checks of a pinned map, and
// for inner tables that a test made itself.
import { BpfMap, UpdateFlag } from "../../src/kernel/bpf-map.ts";
import type { Codec } from "../../src/maps/codec.ts";

/** Typed entries of one map; keys and values by the generated codecs. */
export class Entries<K, V> {
  readonly #map: BpfMap;
  readonly #key: Codec<K>;
  readonly #value: Codec<V>;

  constructor(fd: number, key: Codec<K>, value: Codec<V>, name: string) {
    this.#map = new BpfMap(fd, name);
    this.#key = key;
    this.#value = value;
  }

  get fd(): number {
    return this.#map.fd;
  }

  set(key: K, value: V): void {
    this.#key.write(this.#map.keyView, 0, key);
    this.#value.write(this.#map.valueView, 0, value);
    this.#map.update(UpdateFlag.any);
  }

  get(key: K): V | undefined {
    this.#key.write(this.#map.keyView, 0, key);
    return this.#map.lookup() ? this.#value.read(this.#map.valueView, 0) : undefined;
  }

  /** The values of all processors; empty if there is no entry. */
  getPerCpu(key: K): V[] {
    this.#key.write(this.#map.keyView, 0, key);
    if (!this.#map.lookup()) return [];
    const at = (_: unknown, cpu: number): V => this.#value.read(this.#map.valueView, cpu * this.#map.stride);
    return Array.from({ length: this.#map.cpus }, at);
  }

  delete(key: K): void {
    this.#key.write(this.#map.keyView, 0, key);
    this.#map.delete();
  }

  entries(): [K, V][] {
    return this.entriesPerCpu().map(([key, values]) => [key, values[0] as V]);
  }

  /** Every entry with the values of all processors; one value if the map is not per CPU. */
  entriesPerCpu(): [K, V[]][] {
    const { info, stride, cpus } = this.#map;
    const found: [K, V[]][] = [];
    for (const { keys, values, count } of this.#map.batches()) {
      const keyView = new DataView(keys.buffer);
      const valueView = new DataView(values.buffer);
      for (let i = 0; i < count; i++) {
        const ofCpu = (_: unknown, cpu: number): V => this.#value.read(valueView, (i * cpus + cpu) * stride);
        found.push([this.#key.read(keyView, i * info.keySize), Array.from({ length: cpus }, ofCpu)]);
      }
    }
    return found;
  }

  /** Writes zeros for every processor. */
  zero(key: K): void {
    this.#key.write(this.#map.keyView, 0, key);
    this.#map.value.fill(0);
    this.#map.update(UpdateFlag.any);
  }

  clear(): void {
    for (const [key] of this.entries()) this.delete(key);
  }

  close(): void {
    this.#map.close();
  }
}
