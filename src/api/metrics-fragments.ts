// SPDX-License-Identifier: Apache-2.0
// Metrics of fragments that came before the first of their datagram.
import { waitingFragments } from "../maps/fragments.ts";
import { counter, gauge, type Metric, one } from "./metric.ts";

export const FRAGMENTS: readonly Metric[] = [
  counter(
    "hookline_fragments_held_total",
    "",
    "Later fragments that came before the first of their datagram and were kept until it comes.",
    one(({ fragments }) => fragments.held),
  ),
  counter(
    "hookline_fragments_ended_total",
    "outcome",
    "What became of them: released behind the first, or given_up because it did not come.",
    ({ fragments }) => [
      [fragments.released, "released"],
      [fragments.ended, "given_up"],
    ],
  ),
  gauge(
    "hookline_fragments_waiting",
    "",
    "Fragments that wait now.",
    one(({ fragments }) => Math.max(0, waitingFragments(fragments))),
  ),
];
