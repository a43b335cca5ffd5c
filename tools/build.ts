// SPDX-License-Identifier: Apache-2.0
// `npm run build`: the BPF object and the bundles; skips what is up to date. With --bpf or --bundles only one of them.
import { buildBpf } from "./build-bpf.ts";
import { bundleAll } from "./bundle.ts";

/** Builds all that is out of date and prints one line for each file written. */
export async function buildAll(only = ""): Promise<void> {
  if (only !== "--bundles" && buildBpf().compiled) console.log("built build/datapath.bpf.o");
  if (only !== "--bpf") for (const path of await bundleAll()) console.log(`built ${path}`);
}

if (import.meta.main) {
  try {
    await buildAll(process.argv[2]);
  } catch (thrown) {
    console.error(thrown instanceof Error ? thrown.message : thrown);
    process.exitCode = 1;
  }
}
