// SPDX-License-Identifier: Apache-2.0
// A process that answers over HTTP, TCP and UDP with one line of JSON that says who called: the lab's own servers, on
// the ports of test/support/netns.ts. Arguments: its name, then the addresses that UDP answers on.
import { announceReady, serveHttp, serveTcpEcho, serveUdpEcho } from "../../src/lab/web-server.ts";
import { OUTSIDE_PORT } from "./netns.ts";

const [name = "outside", ...addresses] = process.argv.slice(2);
await serveHttp(name, OUTSIDE_PORT.http);
await serveTcpEcho(name, OUTSIDE_PORT.tcp);
await serveUdpEcho(name, addresses, OUTSIDE_PORT.udp);
announceReady();
