// SPDX-License-Identifier: Apache-2.0
// The records of the flow table as a list in one order, for tables of any size: records stay as the bytes that the kernel
// gave (96 each), sorted by number, and become rows one at a time, as often as they are gone through.
import type { EndpointReport } from "../agent/status.ts";
import type { Flow, FlowKey } from "../maps/gen/types.ts";
import type { InnerTableOf } from "../maps/table.ts";
import { nowTicks } from "../maps/ticks.ts";
import { askAgent } from "./agent.ts";
import type { GlobalOptions } from "./command.ts";
import { type FlowFilter, flowTest, namesPods } from "./flow-filter.ts";
import { type FlowRecord, type FlowRow, flowRow } from "./flows.ts";
import { resolveTarget } from "./target.ts";

type FlowTable = InnerTableOf<"flows">;

/** The `chosen` ones of equally long records, back to back. */
function gather(from: Uint8Array, chosen: readonly number[], size: number): Buffer {
  const to = Buffer.alloc(chosen.length * size);
  for (const [at, i] of chosen.entries()) to.set(from.subarray(i * size, (i + 1) * size), at * size);
  return to;
}

/** Numbers that grow, in 4 bytes each. */
class Numbers {
  #room = new Int32Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#room.length) {
      const larger = new Int32Array(this.#room.length * 2);
      larger.set(this.#room);
      this.#room = larger;
    }
    this.#room[this.length++] = value;
  }

  at(index: number): number {
    return this.#room[index] ?? 0;
  }
}

/** Rows in order: youngest first, of one age by their tuples. Made once, gone through as often as one likes. */
export class FlowList implements Iterable<FlowRow> {
  readonly #row: FlowTable["row"];
  readonly #keySize: number;
  readonly #valueSize: number;
  readonly #now: number;
  /** Batches of records, back to back, and for each record its batch, its place there and its age in ticks. */
  readonly #keys: Buffer[] = [];
  readonly #values: Buffer[] = [];
  readonly #batch = new Numbers();
  readonly #place = new Numbers();
  readonly #age = new Numbers();
  #order: Uint32Array | undefined;

  /** `table` tells how records are laid out; `now` is in ticks. */
  constructor(table: Pick<FlowTable, "row" | "map">, now = nowTicks()) {
    this.#row = table.row;
    this.#keySize = table.map.info.keySize;
    this.#valueSize = table.map.info.valueSize;
    this.#now = now;
  }

  /** Takes in the records of a table that are wanted. A record that a growth has moved may be in two tables: it is one. */
  add(table: Pick<FlowTable, "map">, wanted: (record: FlowRecord, now: number) => boolean): void {
    for (const { keys, values, count } of table.map.batches()) {
      const chosen: number[] = [];
      const views = { keys: new DataView(keys.buffer), values: new DataView(values.buffer) };
      for (let i = 0; i < count; i++) {
        const record = this.#read(views.keys, views.values, i);
        if (!wanted(record, this.#now)) continue;
        this.#batch.push(this.#keys.length);
        this.#place.push(chosen.length);
        // Ticks wrap, their differences do not.
        this.#age.push((this.#now - record.created) | 0);
        chosen.push(i);
      }
      if (chosen.length === 0) continue;
      this.#keys.push(gather(keys, chosen, this.#keySize));
      this.#values.push(gather(values, chosen, this.#valueSize));
    }
    this.#order = undefined;
  }

  #read(keys: DataView, values: DataView, index: number): FlowRecord {
    const key: FlowKey = this.#row.key.read(keys, index * this.#keySize);
    const flow: Flow = this.#row.value.read(values, index * this.#valueSize);
    return { ...key, ...flow };
  }

  /** Records by number, in order. */
  #sorted(): Uint32Array {
    const size = this.#keySize;
    const byTuple = (a: number, b: number): number => {
      const [to, from] = [this.#place.at(b) * size, this.#place.at(a) * size];
      const other = this.#keys[this.#batch.at(b)] ?? Buffer.of();
      return this.#keys[this.#batch.at(a)]?.compare(other, to, to + size, from, from + size) ?? 0;
    };
    const compare = (a: number, b: number): number => this.#age.at(a) - this.#age.at(b) || byTuple(a, b);
    const order = Uint32Array.from({ length: this.#age.length }, (_, i) => i).sort(compare);
    return order.filter((i, at) => at === 0 || compare(order[at - 1] ?? 0, i) !== 0);
  }

  *[Symbol.iterator](): Generator<FlowRow> {
    this.#order ??= this.#sorted();
    const view = (bytes: Buffer): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const batches = this.#keys.map((keys, i) => [view(keys), view(this.#values[i] ?? Buffer.of())] as const);
    for (const i of this.#order) {
      const batch = batches[this.#batch.at(i)];
      if (batch) yield flowRow(this.#read(batch[0], batch[1], this.#place.at(i)), this.#now);
    }
  }
}

/** Which records a command is about. */
export interface FlowQuestion extends GlobalOptions, FlowFilter {
  /** Expired records too, which nobody has replaced yet. */
  readonly all?: boolean;
}

/** The test that a question makes of each record. @throws Fault NOT_RUNNING if it names pods and no agent answers */
export async function questionTest(question: FlowQuestion): Promise<(record: FlowRecord) => boolean> {
  const ask = (): Promise<EndpointReport[]> => askAgent(resolveTarget(question), "/v1/endpoints");
  return flowTest(question, namesPods(question) ? await ask() : []);
}

/** Records that pass the question's filter and, unless `all` are asked for, still count. */
export async function listFlows(
  question: FlowQuestion,
  only: (record: FlowRecord) => boolean = () => true,
): Promise<FlowList | FlowRow[]> {
  const { pinsOf } = await import("./pins.ts");
  const { innerTables } = await import("../maps/table.ts");
  const root = pinsOf(resolveTarget(question));
  const asked = await questionTest(question);
  let list: FlowList | undefined;
  for (const table of innerTables(root, "flows")) {
    using closing = table;
    list ??= new FlowList(closing);
    list.add(closing, (r, now) => only(r) && (question.all || ((r.expires - now) | 0) > 0) && asked(r));
  }
  return list ?? [];
}
