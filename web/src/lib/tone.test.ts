import { expect, test } from "vitest";

import { initialsOf } from "./tone";

test("initials are those of the first and the last name, in any script", () => {
  expect(initialsOf("Ana María Fernández").replaceAll("\u200c", "")).toBe("AF");
  expect(initialsOf("Olu")).toBe("O");
  expect(initialsOf("")).toBe("");
  expect(initialsOf("👩‍🚀 x").replaceAll("\u200c", "")).toBe("👩‍🚀X");
});

test("Arabic initials are not joined into a word of two letters", () => {
  expect(initialsOf("محمد عبد الرحمن")).toBe("م\u200cا");
});
