// SPDX-License-Identifier: Apache-2.0
// The bounds of the embedded API server, one table: what a client, an object or a folder of manifests may cost. Every
// bound is refused with a Status error that names it; tests shrink them to reach each one.

/** Bounds of one server. Sizes are bytes, times milliseconds. */
export interface Limits {
  /** One object as JSON. 1.5 MiB is what etcd accepts, so what fits here fits a real cluster. */
  objectBytes: number;
  /** One request body. */
  bodyBytes: number;
  /** Nesting of one document. */
  depth: number;
  /** Values (objects, lists, scalars) in one document; aliases of YAML count each time. */
  values: number;
  /** Objects of one kind. */
  objectsPerKind: number;
  /** Operations of one JSON patch. */
  patchOperations: number;
  /** Events kept per kind for watches that resume. */
  historyEvents: number;
  /** The same history in bytes. */
  historyBytes: number;
  /** Open watches. */
  watches: number;
  /** Bytes that may wait for one slow watch before it is closed. */
  watchBufferBytes: number;
  /** Open connections. */
  connections: number;
  /** Request line and headers together. */
  headerBytes: number;
  /** Path and query of a request. */
  urlBytes: number;
  /** One manifest file. */
  manifestBytes: number;
  /** Files in the manifests folder. */
  manifestFiles: number;
  /** Documents in one manifest file, items of List kinds included. */
  manifestDocuments: number;
  /** Longest life of a watch; clients resume. */
  watchMs: number;
  /** Interval of bookmarks for watches that asked for them. */
  bookmarkMs: number;
  /** Interval at which the manifests folder is read again, whatever the kernel notified. */
  rescanMs: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_LIMITS: Readonly<Limits> = {
  objectBytes: 1.5 * MIB,
  bodyBytes: 3 * MIB,
  depth: 128,
  values: 500_000,
  objectsPerKind: 50_000,
  patchOperations: 1000,
  historyEvents: 4096,
  historyBytes: 32 * MIB,
  watches: 4096,
  watchBufferBytes: 8 * MIB,
  connections: 8192,
  headerBytes: 32 * 1024,
  urlBytes: 8 * 1024,
  manifestBytes: 8 * MIB,
  manifestFiles: 4096,
  manifestDocuments: 10_000,
  watchMs: 30 * 60_000,
  bookmarkMs: 30_000,
  rescanMs: 2_000,
};
