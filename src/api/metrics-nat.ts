// SPDX-License-Identifier: Apache-2.0
// Metrics of translation: how many ports were refused before a flow got one, which remote endpoints are near the end of them,
// towards whom there were none; connections of which nothing is known any more. At most 32 remote endpoints have series of
// their own.
import type { RemoteEndpoint } from "../maps/port-use.ts";
import { RETRY_FAMILIES } from "../maps/retries.ts";
import { formatEnd } from "../observe/decode.ts";
import { protocolName } from "../observe/protocol.ts";
import { counter, gauge, histogram, type Metric, type Reading } from "./metric.ts";
import type { Sample } from "./metrics-sample.ts";

const named = ({ source, remote, port, proto }: RemoteEndpoint): [string, string, string] => [
  source,
  formatEnd(remote, port),
  protocolName(proto),
];

/** Cumulative, the last bucket without a bound. */
function buckets({ retries }: Sample): Reading[] {
  return RETRY_FAMILIES.flatMap((family) => {
    let flows = 0;
    return retries[family].map((count, slot, all): Reading => {
      flows += count;
      return [flows, family, slot === all.length - 1 ? "+Inf" : String(slot)];
    });
  });
}

export const NAT: readonly Metric[] = [
  gauge(
    "cilium_nat_endpoint_max_connection",
    "family",
    "Share of the ports in use towards the remote endpoint that has the most, 0 to 1.",
    ({ ports }) => RETRY_FAMILIES.map((family): Reading => [ports.fullest[family], family]),
  ),
  gauge(
    "hookline_nat_endpoint_ports",
    "source remote proto",
    "Ports in use towards a remote endpoint, of the 32 that have the most.",
    ({ ports }) => ports.used.map((use): Reading => [use.held, ...named(use)]),
  ),
  counter(
    "hookline_nat_refused_total",
    "source remote proto",
    "Flows that found no port towards a remote endpoint, of the 32 that refused the most.",
    ({ ports }) => ports.refusals.map((of): Reading => [of.refused, ...named(of)]),
  ),
  histogram(
    "hookline_nat_port_retries",
    "family",
    "Ports that were refused before a new flow got one; beyond the last bound also flows that got none.",
    buckets,
  ),
  counter(
    "hookline_tcp_resets_total",
    "family",
    "TCP segments of pods that were dropped (138) and answered by a RST: nobody knows their connection.",
    ({ resets }) => RETRY_FAMILIES.map((family): Reading => [resets[family], family]),
  ),
];
