// SPDX-License-Identifier: Apache-2.0
// The certificates of a TCP endpoint: a CA and a server certificate signed by it, new with every start and only when TCP
// is asked for. Clients get the CA through the kubeconfig.
import { isIP } from "node:net";
import { hostname } from "node:os";
import { generate } from "selfsigned";

export interface Certificates {
  /** PEM texts. */
  ca: string;
  cert: string;
  key: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const YEARS_MS = 5 * 365 * DAY_MS;

/** A CA and a certificate for `host`, localhost and the loopback addresses. Takes about 20 ms. */
export async function makeCertificates(host: string): Promise<Certificates> {
  // An hour of slack for clocks that differ.
  const validity = {
    notBeforeDate: new Date(Date.now() - DAY_MS / 24),
    notAfterDate: new Date(Date.now() + YEARS_MS),
  };
  const common = { keyType: "ec" as const, curve: "P-256" as const, algorithm: "sha256", ...validity };
  const ca = await generate([{ name: "commonName", value: "hookline-ca" }], {
    ...common,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, digitalSignature: true, critical: true },
    ],
  });
  const names = [...new Set(["localhost", hostname(), ...(isIP(host) ? [] : [host])])];
  const addresses = [...new Set(["127.0.0.1", "::1", ...(isIP(host) ? [host] : [])])];
  const server = await generate([{ name: "commonName", value: "hookline-apiserver" }], {
    ...common,
    ca: { key: ca.private, cert: ca.cert },
    extensions: [
      { name: "basicConstraints", cA: false },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: [
          ...names.map((value) => ({ type: 2 as const, value })),
          ...addresses.map((ip) => ({ type: 7 as const, ip })),
        ],
      },
    ],
  });
  return { ca: ca.cert, cert: server.cert, key: server.private };
}
