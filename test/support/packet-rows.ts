// SPDX-License-Identifier: Apache-2.0
// Tables of packet tests: each row says what was there, what packet comes to which hook, and what must become of it. A
// failing row shows the packet field by field, the rule reached, and the command that runs it alone.
import assert from "node:assert/strict";
import { relative } from "node:path";
import { test } from "node:test";
import { MAPS } from "../../src/maps/gen/maps.ts";
import type { Flow, FlowEvent, FlowKey, Reply } from "../../src/maps/gen/types.ts";
import {
  DropReason,
  dropReasonText,
  EventKind,
  Hook,
  MasqueradeRule,
  masqueradeRuleText,
} from "../../src/maps/gen/verdict.ts";
import {
  type HookName,
  nowTicks,
  type RunOptions,
  type TestDatapath,
  TICKS_PER_SECOND,
  type Verdict,
} from "./datapath.ts";
import type { Packet } from "./packet.ts";
import { differences } from "./packet-fields.ts";
import { type Devices, ENDPOINT_A, ENDPOINT_B } from "./packet-node.ts";

/** What a row's functions get. */
export interface Bench {
  readonly datapath: TestDatapath;
  readonly devices: Devices;
  /** Makes all maps that the agent writes as they were when the data plane was loaded. */
  restore(): void;
}

export interface Expectation {
  verdict: Verdict;
  /** The packet after the hook. Default: as it came. Not looked at if it is dropped, or if it is `any`. */
  packet?: Packet | "any";
  /** Rule of the event, if there is one, else of the record. */
  rule?: keyof typeof MasqueradeRule;
  /** Why it is dropped; then there is exactly one drop event and one count. */
  reason?: keyof typeof DropReason;
  /** It waits for the first fragment of its datagram and is neither counted nor told; `copy`: it goes on as well. */
  held?: true | "copy";
  /** Whether a new-flow event is told. Default: no. */
  fresh?: boolean;
  event?: Partial<FlowEvent>;
  /** Records and index entries after the packet, which was sent at the tick `sent` or later. Default: not looked at. */
  flows?: (entries: [FlowKey, Flow][], sent: number) => void;
  replies?: (entries: [FlowKey, Reply][]) => void;
}

export interface Row {
  name: string;
  /** Map contents and earlier packets. */
  given?: (bench: Bench) => void;
  /** Whether what was remembered of those packets still counts. Default: no, a tick has passed. */
  sameTick?: boolean;
  hook: HookName;
  device: keyof Devices;
  packet: Packet;
  options?: Partial<RunOptions>;
  expect: Expectation;
}

const HOOK: Record<HookName, number> = {
  from_pod: Hook.HOOK_FROM_POD,
  to_pod: Hook.HOOK_TO_POD,
  from_net: Hook.HOOK_FROM_NET,
  to_net: Hook.HOOK_TO_NET,
};

/** Sends a packet through a hook. */
export function send(bench: Bench, hook: HookName, device: keyof Devices, packet: Packet): Verdict {
  return bench.datapath.run(hook, packet.bytes(), { ifindex: bench.devices[device] }).verdict;
}

function ruleText(rule: number | undefined): string {
  return rule === undefined ? "none was reached" : `${rule} (${masqueradeRuleText[rule] ?? "?"})`;
}

/** Lines of what differs from the expectation; empty if nothing does. */
function judge(bench: Bench, row: Row): string[] {
  const { datapath, devices } = bench;
  const { expect } = row;
  const hook = HOOK[row.hook];
  const reason = expect.reason === undefined ? DropReason.FORWARDED : DropReason[expect.reason];
  const before = datapath.counter(hook, reason);
  const waited = waiting(bench);
  const bytes = row.packet.bytes();
  const sent = nowTicks();
  const result = datapath.run(row.hook, bytes, { ifindex: devices[row.device], ...row.options });
  const after = datapath.counter(hook, reason);
  const events = datapath.events();
  const lines: string[] = [];
  const same = (what: string, expected: unknown, actual: unknown): void => {
    if (expected !== actual) lines.push(`${what}: expected ${expected}, actual ${actual}`);
  };

  same("verdict", expect.verdict, result.verdict);
  const wanted = expect.packet ?? row.packet;
  if (result.verdict !== "drop" && wanted !== "any") {
    lines.push(...differences(wanted.bytes(), result.packet));
  }
  const counted = expect.held === true ? 0n : 1n;
  same("packets counted", counted, after.packets - before.packets);
  same("bytes counted", counted * BigInt(bytes.length), after.bytes - before.bytes);
  same("fragments held", expect.held ? 1 : 0, waiting(bench) - waited);
  const silent = datapath.config.events === 0;
  const kinds = expect.reason ? [EventKind.EVENT_DROP] : expect.fresh ? [EventKind.EVENT_NEW_FLOW] : [];
  same("event kinds", silent ? "" : kinds.join(), events.map((event) => event.kind).join());
  const event = events[0];
  if (event) same("event reason", dropReasonText[reason], dropReasonText[event.reason]);
  const rule = event?.rule ?? datapath.flows.entries()[0]?.[1].rule;
  if (expect.rule) same("rule", ruleText(MasqueradeRule[expect.rule]), ruleText(rule));
  for (const [field, value] of Object.entries(expect.event ?? {})) {
    same(`event ${field}`, value, event?.[field as keyof FlowEvent]);
  }
  for (const check of [
    () => expect.flows?.(datapath.flows.entries(), sent),
    () => expect.replies?.(datapath.replies.entries()),
  ]) {
    try {
      check();
    } catch (thrown) {
      lines.push(thrown instanceof Error ? thrown.message : `${thrown}`);
    }
  }
  if (lines.length > 0) lines.push(`rule reached: ${ruleText(rule)}`);
  return lines;
}

/** Fragments that wait for the first of their datagram. */
export function waiting({ datapath }: Bench): number {
  return datapath
    .table(MAPS.frag_held)
    .entries()
    .filter(([, { since }]) => since !== 0).length;
}

/** Nothing waits, and nothing has lately. */
function clearHeld({ datapath }: Bench): void {
  const table = datapath.table(MAPS.frag_held);
  for (const [place, held] of table.entries())
    if (held.since !== 0 || held.marked !== 0 || held.refused !== 0)
      table.set(place, { ...held, since: 0, marked: 0, refused: 0 });
}

/**
 * Empties the flow table, its index, what is known of crowded endpoints, what waits, and the ring; the agent's maps are as at
 * first.
 */
export function reset(bench: Bench): void {
  const { datapath } = bench;
  bench.restore();
  datapath.flows.clear();
  datapath.replies.clear();
  datapath.table(MAPS.crowded).clear();
  clearHeld(bench);
  datapath.table(MAPS.table_use).set(0, 0n);
  for (const id of [0, ENDPOINT_A, ENDPOINT_B]) datapath.table(MAPS.owners).zero(id);
  datapath.forget();
  datapath.events();
}

/**
 * Asserts that a record lives for so long from its packet on, which was sent at the tick `sent` or later. Jiffies run up to a
 * second behind our clock, and a record's time is moved once a second.
 */
export function assertLives({ expires }: Flow, seconds: number, sent: number): void {
  const life = seconds * TICKS_PER_SECOND;
  const [soonest, latest] = [sent - 2 * TICKS_PER_SECOND + life - 3, nowTicks() + life + 1];
  const text = `lives until tick ${expires}, not from ${soonest} to ${latest}: ${seconds} s`;
  assert.ok(expires >= soonest && expires <= latest, text);
}

/** Registers one test per row. `bench` is asked when the test runs; `file` is import.meta.filename. */
export function runRows(file: string, bench: () => Bench, rows: readonly Row[]): void {
  const names = new Set(rows.map((row) => row.name));
  assert.equal(names.size, rows.length, "two rows have the same name");
  for (const row of rows) {
    test(row.name, () => {
      const here = bench();
      reset(here);
      row.given?.(here);
      if (!row.sameTick) here.datapath.forget();
      here.datapath.events();
      const lines = judge(here, row);
      if (lines.length === 0) return;
      const path = relative(process.cwd(), file);
      const pattern = row.name.replace(/[^\w ,:-]/g, ".");
      lines.push(`run it alone: node_modules/.bin/node --test --test-name-pattern='^${pattern}$' ${path}`);
      assert.fail(`\n  ${lines.join("\n  ")}`);
    });
  }
}
