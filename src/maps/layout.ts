// SPDX-License-Identifier: Apache-2.0
// How the entries of a map are laid out, as text: what the generated table says, and what stands beside each pin, so that a
// release finds out what another one has left. `saddr:0:16:struct addr,...|rule:0:4:__u32`: fields of the key, then of the value,
// each with its offset, its bytes and its type in C; padding is not told.

interface Field {
  readonly name: string;
  readonly at: number;
  readonly size: number;
  readonly type: string;
}

interface Layout {
  readonly key: readonly Field[];
  readonly value: readonly Field[];
}

function parseLayout(text: string): Layout {
  const [key = [], value = []] = text.split("|").map((side) =>
    side
      .split(",")
      .filter(Boolean)
      .map((field) => {
        const [name = "", at = "", size = "", type = ""] = field.split(":");
        return { name, at: Number(at), size: Number(size), type };
      }),
  );
  return { key, value };
}

/** What differs, in phrases: `field xsport: 2 bytes at 32, wanted 4 bytes at 32`. Empty if the texts mean the same. */
export function describeChange(is: string, wanted: string): string[] {
  const [old, fresh] = [parseLayout(is), parseLayout(wanted)];
  const place = (f: Field | undefined): string => (f ? `${f.type}, ${f.size} bytes at ${f.at}` : "none");
  return (["key", "value"] as const).flatMap((side) => {
    const names = new Set([...old[side], ...fresh[side]].map((field) => field.name));
    return [...names].flatMap((name) => {
      const before = place(old[side].find((field) => field.name === name));
      const after = place(fresh[side].find((field) => field.name === name));
      return before === after ? [] : [`${side} field ${name} is ${before}, wanted ${after}`];
    });
  });
}

/**
 * Copies what two layouts have in common, by the names of the fields: the same name, type and bytes. `undefined` if a field of the
 * key cannot be carried over: then the entry means nothing any more.
 */
export function carrier(
  is: string,
  wanted: string,
): Readonly<Record<"key" | "value", (from: Uint8Array, to: Uint8Array) => void>> | undefined {
  const [old, fresh] = [parseLayout(is), parseLayout(wanted)];
  const moves = (side: "key" | "value") =>
    fresh[side].map((field) => ({
      field,
      from: old[side].find((o) => o.name === field.name && o.size === field.size && o.type === field.type),
    }));
  if (moves("key").some(({ from }) => from === undefined)) return undefined;
  if (old.key.length !== fresh.key.length) return undefined;
  const carry = (side: "key" | "value") => {
    const known = moves(side);
    return (from: Uint8Array, to: Uint8Array): void => {
      to.fill(0);
      for (const { field, from: source } of known) {
        if (source !== undefined) to.set(from.subarray(source.at, source.at + source.size), field.at);
      }
    };
  };
  return { key: carry("key"), value: carry("value") };
}
