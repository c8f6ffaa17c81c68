/** A hue of its own for each person, from their name or id: the same one everywhere and every time. */
export function hueOf(id: string): number {
  let hash = 2166136261;
  for (const character of id) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16777619);
  return (hash >>> 0) % 360;
}

/** Keeps two letters apart that Arabic script would join as if they were one word; not seen in others. */
const NON_JOINER = "\u200c";

/** One or two letters for a person without a picture, in any script. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined].map((word) => firstLetter(word ?? ""));
  return letters.filter(Boolean).join(NON_JOINER).toUpperCase();
}

const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

function firstLetter(word: string): string {
  return [...segmenter.segment(word)][0]?.segment ?? "";
}
