// SPDX-License-Identifier: Apache-2.0
// The reads of the API: one object, and lists with selectors, pages and resource versions. A list that is read in pages
// shows one moment: later pages come from the state that the first page saw, or are refused with 410.
import { Fault } from "../../base/fault.ts";
import { faults } from "../faults.ts";
import { isObject, type KubeObject } from "../json.ts";
import type { Resource } from "../registry.ts";
import { fieldSelector, labelSelector, type Predicate } from "../selector.ts";
import type { Item } from "../store/collection.ts";

/** One page of a list. */
export interface Page {
  items: Item[];
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
}

/** The object as the requested version of its kind shows it (conversion "None": only apiVersion differs). */
export function objectAt(resource: Resource, item: Item): KubeObject {
  const { object } = item;
  return object.apiVersion === resource.apiVersion ? object : { ...object, apiVersion: resource.apiVersion };
}

export function textAtVersion(resource: Resource, item: Item): string {
  return item.object.apiVersion === resource.apiVersion
    ? item.text
    : JSON.stringify(objectAt(resource, item));
}

/**
 * What a query selects: namespace, labels, fields.
 * @throws Fault API_BAD_REQUEST
 */
export function selection(
  resource: Resource,
  namespace: string | undefined,
  query: URLSearchParams,
): Predicate {
  const labels = labelSelector(query.get("labelSelector") ?? "");
  const fields = fieldSelector(query.get("fieldSelector") ?? "", resource.fields);
  return (object) => {
    if (namespace !== undefined && (object as KubeObject).metadata.namespace !== namespace) return false;
    return labels(object) && fields(object);
  };
}

/** A number of the query; undefined when absent. */
export function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (!/^\d{1,16}$/.test(text)) throw faults.API_BAD_REQUEST({ why: `${name}: "${text}" is not a number` });
  return Number(text);
}

/** @throws Fault API_BAD_REQUEST, API_GONE */
export function list(resource: Resource, namespace: string | undefined, query: URLSearchParams): Page {
  const { collection } = resource;
  const wanted = selection(resource, namespace, query);
  const limit = numberOf(query, "limit") ?? 0;
  const token = query.get("continue");
  const from = token ? readToken(token) : undefined;
  const version = from?.version ?? exactVersion(query) ?? collection.version;
  const all = itemsAt(resource, version, from !== undefined);
  const prefix = namespace === undefined ? undefined : `${namespace}/`;
  const items: Item[] = [];
  let more = false;
  for (const item of all) {
    if (from && item.key <= from.after) continue;
    if (prefix !== undefined && !item.key.startsWith(prefix)) continue;
    if (!wanted(item.object)) continue;
    if (limit > 0 && items.length === limit) {
      more = true;
      break;
    }
    items.push(item);
  }
  const last = items.at(-1);
  if (!more || !last) return { items, metadata: { resourceVersion: String(version) } };
  return { items, metadata: { resourceVersion: String(version), continue: makeToken(version, last.key) } };
}

function exactVersion(query: URLSearchParams): number | undefined {
  const version = numberOf(query, "resourceVersion");
  return query.get("resourceVersionMatch") === "Exact" ? version : undefined;
}

function itemsAt(resource: Resource, version: number, continued: boolean): readonly Item[] {
  if (version === resource.collection.version) return resource.collection.items();
  try {
    return resource.collection.itemsAt(version);
  } catch (thrown) {
    if (!continued || !(thrown instanceof Fault)) throw thrown;
    const why = "the continue token is too old: the state it belongs to is no longer kept; list again";
    throw faults.API_GONE({ why }, thrown);
  }
}

function makeToken(version: number, after: string): string {
  return Buffer.from(JSON.stringify({ version, after })).toString("base64url");
}

function readToken(text: string): { version: number; after: string } {
  try {
    const token: unknown = JSON.parse(Buffer.from(text, "base64url").toString());
    if (isObject(token) && Number.isInteger(token.version) && typeof token.after === "string") {
      return { version: token.version as number, after: token.after };
    }
  } catch {
    // Said below.
  }
  throw faults.API_BAD_REQUEST({ why: "the continue token is not one of this server" });
}
