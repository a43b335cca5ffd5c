// SPDX-License-Identifier: Apache-2.0
// The store of one kind: versions, events, the past within the window, and Gone beyond it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "../json.ts";
import { Clock, Collection, type StoreEvent } from "./collection.ts";

const WINDOW = { historyEvents: 8, historyBytes: 1_000_000 };
const object = (name: string, value = 0): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    name,
    namespace: "default",
    uid: name,
    resourceVersion: "",
    creationTimestamp: "2026-01-01T00:00:00Z",
  },
  data: { value: String(value) },
});
const names = (items: readonly { object: KubeObject }[]) => items.map((i) => i.object.metadata.name);
const put = (collection: Collection, name: string, value = 0) => collection.put(object(name, value));

test("every write gets a higher version and the object carries it", () => {
  const collection = new Collection(new Clock(), WINDOW);
  const first = put(collection, "a");
  const second = put(collection, "a", 1);
  assert.ok(second.version > first.version);
  assert.equal(second.object.metadata.resourceVersion, String(second.version));
  assert.equal(JSON.parse(second.text).metadata.resourceVersion, String(second.version));
  assert.equal(first.object.metadata.resourceVersion, String(first.version), "the old state is unchanged");
});

test("two collections of a server share the versions", () => {
  const clock = new Clock();
  const [a, b] = [new Collection(clock, WINDOW), new Collection(clock, WINDOW)];
  const first = put(a, "x").version;
  assert.ok(put(b, "y").version > first);
});

test("events come in order with what was before", () => {
  const collection = new Collection(new Clock(), WINDOW);
  const seen: StoreEvent[] = [];
  const stop = collection.subscribe({ event: (e) => seen.push(e), closed: () => {} });
  put(collection, "a");
  const two = put(collection, "a", 1);
  collection.remove(two);
  stop();
  put(collection, "b");
  assert.deepEqual(
    seen.map((e) => e.type),
    ["ADDED", "MODIFIED", "DELETED"],
  );
  assert.equal(seen[1]?.previous, seen[0]?.item);
  assert.ok((seen[2]?.version ?? 0) > two.version, "a removal has a version of its own");
});

test("the past can be read as it was", () => {
  const collection = new Collection(new Clock(), WINDOW);
  put(collection, "b");
  put(collection, "a", 1);
  const then = collection.version;
  put(collection, "a", 2);
  put(collection, "c");
  const b = collection.get("default", "b");
  assert.ok(b);
  collection.remove(b);
  assert.deepEqual(names(collection.items()), ["a", "c"]);
  assert.deepEqual(names(collection.itemsAt(then)), ["a", "b"]);
  assert.deepEqual(collection.itemsAt(then)[0]?.object.data, { value: "1" });
  assert.equal(collection.since(then).length, 3);
  assert.equal(collection.since(collection.version).length, 0);
});

test("versions beyond the window, of the future and of an earlier life are gone", () => {
  const collection = new Collection(new Clock(), WINDOW);
  const first = put(collection, "a").version;
  for (let i = 0; i < 40; i++) put(collection, "a", i);
  assert.throws(() => collection.since(first), { code: "API_GONE" });
  assert.throws(() => collection.itemsAt(first), { code: "API_GONE" });
  assert.throws(() => collection.since(collection.version + 1), { code: "API_GONE" });
  assert.throws(() => collection.since(1), { code: "API_GONE" });
  assert.equal(collection.since(collection.version - 5).length, 5);
});

test("large objects shorten the window", () => {
  const collection = new Collection(new Clock(), { historyEvents: 1000, historyBytes: 10_000 });
  const first = put(collection, "a").version;
  for (let i = 0; i < 100; i++) put(collection, "a", i);
  assert.throws(() => collection.since(first), { code: "API_GONE" });
});

test("a closed collection tells its subscribers", () => {
  const collection = new Collection(new Clock(), WINDOW);
  let closed = 0;
  collection.subscribe({ event: () => {}, closed: () => closed++ });
  collection.close();
  assert.equal(closed, 1);
});
