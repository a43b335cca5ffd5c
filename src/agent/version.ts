// SPDX-License-Identifier: Apache-2.0
// The version of this program, from package.json; the bundle carries it inside.
import manifest from "../../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
