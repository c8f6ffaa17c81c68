import { expect, test } from "vitest";

import { longestGaps, type Sample, type Stream } from "./gap";

/** What statistics say at `atMs` of a stream whose pictures came at these moments. */
function sample(atMs: number, pictures: Record<string, number[]>): Sample {
  const streams = Object.entries(pictures).flatMap(([id, timesMs]) => {
    const came = timesMs.filter((timeMs) => timeMs <= atMs);
    const spacings = came.slice(1).map((timeMs, index) => (timeMs - (came[index] ?? timeMs)) / 1000);
    const spacing = spacings.reduce((sum, one) => sum + one, 0);
    const squaredSpacing = spacings.reduce((sum, one) => sum + one * one, 0);
    return [{ id, kind: "picture" as const, count: came.length, spacing, squaredSpacing, concealed: 0 }];
  });
  return { atMs, streams: [...streams, voice(1 + atMs / 20, 0)] };
}

function voice(count: number, concealed: number): Stream {
  return { id: "voice", kind: "sound", count, spacing: 0, squaredSpacing: 0, concealed };
}

function every33(fromMs: number, untilMs: number): number[] {
  return Array.from({ length: Math.floor((untilMs - fromMs) / 33) }, (_, index) => fromMs + index * 33);
}

const OFTEN = Array.from({ length: 31 }, (_, index) => index * 100);

function heard(atMs: number, count: number, concealed: number): Sample {
  return { atMs, streams: [voice(count, concealed)] };
}

test("pictures without a pause have no gap, however late the page says so", () => {
  const pictures = { a: every33(0, 3000) };
  expect(longestGaps(OFTEN.map((atMs) => sample(atMs, pictures))).pictureMs).toBeLessThan(100);
  const { pictureMs, quietMs } = longestGaps([0, 100, 900, 1000].map((atMs) => sample(atMs, pictures)));
  expect(pictureMs).toBeLessThan(200);
  expect(quietMs).toBe(0);
});

test("a gap is found, no shorter than it was, between samples and across them", () => {
  const pictures = { a: [...every33(0, 1000), ...every33(1600, 3000)] };
  for (const times of [OFTEN, [0, 100, 2000, 2100]]) {
    const { pictureMs } = longestGaps(times.map((atMs) => sample(atMs, pictures)));
    expect(pictureMs).toBeGreaterThanOrEqual(600);
    expect(pictureMs).toBeLessThan(750);
  }
});

test("a gap from one connection to the next is found, though nothing counts it", () => {
  const [old, fresh] = [every33(0, 1000), every33(1500, 3000)];
  const samples = [0, 900, 1000, 1100, 2400].map((atMs) => sample(atMs, atMs < 1200 ? { old } : { fresh }));
  const { pictureMs } = longestGaps(samples);
  expect(pictureMs).toBeGreaterThanOrEqual(500);
  expect(pictureMs).toBeLessThan(650);
});

test("what never comes again is a gap until the end", () => {
  const { pictureMs, quietMs } = longestGaps(OFTEN.map((atMs) => sample(atMs, { a: every33(0, 1000) })));
  expect(pictureMs).toBeGreaterThanOrEqual(1900);
  expect(quietMs).toBe(pictureMs);
});

test("sound that was made up was missing, and the rest was not", () => {
  expect(longestGaps([heard(0, 1, 0), heard(100, 6, 0), heard(900, 46, 0.04), heard(1000, 50, 0.04)]).soundMs).toBe(40);
  expect(longestGaps([heard(0, 1, 0), heard(100, 6, 0), heard(400, 6, 0.3), heard(900, 10, 0.5)]).soundMs).toBe(500);
  expect(longestGaps([heard(100, 6, 0), heard(900, 6, 0)]).soundMs).toBe(800);
});
