// SPDX-License-Identifier: Apache-2.0
// YAML output, in a file of its own because commands that print tables do without the library.
import { stringify } from "yaml";

/** One YAML document of plain JSON data; repeated objects are written out, not referred to. */
export function renderYaml(value: unknown): string {
  return stringify(value, { aliasDuplicateObjects: false });
}
