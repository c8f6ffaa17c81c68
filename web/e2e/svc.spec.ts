import { expect } from "vitest";

import type { ChromiumParticipant } from "./browser";
import { isFault, test } from "./call";
import { scalable } from "./codecs";
import { figure } from "./figure";
import { eventually, pause } from "./waiting";

const WATCH_MS = 3_000;
/** Motion, still: two decoders and an encoder in software, on the cores that the cluster runs on. */
const MIN_FPS = 15;
const CAPTURED_LINES = 360;
const SMALL = { width: 260, height: 240 };
const LARGE = { width: 1280, height: 900 };

for (const [codec, mode] of [
  ["VP9", "L2T3_KEY"],
  ["VP9", "L2T3"],
  ["AV1", "L2T3_KEY"],
] as const) {
  test(`of ${codec} in ${mode} everyone gets the size that they show, here and in another PoP`, async ({ arrive }) => {
    const small = { prepare: (page: ChromiumParticipant["page"]) => page.setViewportSize(SMALL) };
    const near = await arrive("Near", "bogota");
    const far = await arrive("Far", "milan", small);
    await near.page.setViewportSize(LARGE);
    const ana = await arrive("Ana", "bogota", { prepare: scalable(`video/${codec}`, mode) });
    const viewers = [near, far];
    await Promise.all(viewers.map((viewer) => viewer.sees()));
    await Promise.all([lines(near, CAPTURED_LINES), lines(far, CAPTURED_LINES / 2)]);
    const rates = await Promise.all(viewers.map(rate));
    await far.page.setViewportSize(LARGE);
    const largerMs = await lines(far, CAPTURED_LINES);
    await near.page.setViewportSize(SMALL);
    const smallerMs = await lines(near, CAPTURED_LINES / 2);
    const after = await Promise.all(viewers.map(rate));
    const described = [...rates, ...after].map((fps) => fps.toFixed(1));
    figure(
      `${codec} ${mode}: pictures/s ${described.join(", ")}; larger after ${largerMs} ms, smaller after ${smallerMs} ms`,
    );
    for (const fps of [...rates, ...after]) expect(fps, "pictures a second").toBeGreaterThanOrEqual(MIN_FPS);
    expect(ana.complaints.filter(isFault)).toEqual([]);
  });
}

/** Waits until Ana's picture has so many lines; for how long. */
async function lines(by: ChromiumParticipant, wanted: number): Promise<number> {
  const startedMs = Date.now();
  const height = async () => (await by.arrival("Ana", "camera"))?.height;
  await eventually(async () => (await height()) === wanted, 15_000, `Ana's picture has ${wanted} lines`).catch(
    async (error: Error) => {
      throw new Error(`${error.message}; instead ${await height()}: ${await by.situation()}`);
    },
  );
  return Date.now() - startedMs;
}

async function rate(by: ChromiumParticipant): Promise<number> {
  const decoded = async () => (await by.arrival("Ana", "camera"))?.framesDecoded ?? 0;
  const before = await decoded();
  await pause(WATCH_MS);
  return (((await decoded()) - before) * 1000) / WATCH_MS;
}
