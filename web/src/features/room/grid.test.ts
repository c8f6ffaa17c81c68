import fc from "fast-check";
import { expect, test } from "vitest";

import { tileSize } from "./grid";

const GAP = 8;

test("every tile fits, whatever the screen and however many people", () => {
  const side = fc.integer({ min: 200, max: 3000 });
  fc.assert(
    fc.property(side, side, fc.integer({ min: 1, max: 25 }), (width, height, count) => {
      const tile = tileSize({ width, height }, count, GAP);
      const columns = Math.floor((width + GAP) / (tile.width + GAP));
      const rows = Math.floor((height + GAP) / (tile.height + GAP));
      expect(columns * rows).toBeGreaterThanOrEqual(count);
    }),
  );
});

test("one person has all of it, four on a wide screen have quarters", () => {
  expect(tileSize({ width: 1400, height: 700 }, 1, GAP)).toEqual({ width: 1400, height: 700 });
  expect(tileSize({ width: 1248, height: 704 }, 4, GAP)).toEqual({ width: 618, height: 348 });
});

test("four on a phone held upright are two by two, three on a wide screen are never cut to strips", () => {
  const four = tileSize({ width: 358, height: 716 }, 4, GAP);
  expect(four.width).toBe(175);
  const three = tileSize({ width: 1408, height: 771 }, 3, GAP);
  expect(three.width).toBeGreaterThanOrEqual(three.height);
});

test("an area not measured yet has no tiles", () => {
  expect(tileSize({ width: 0, height: 0 }, 3, GAP)).toEqual({ width: 0, height: 0 });
});
