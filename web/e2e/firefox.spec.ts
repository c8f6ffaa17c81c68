import { expect } from "vitest";

import { expectFluent, FLUENT_FPS, isFault, test } from "./call";
import { figure } from "./figure";
import { joinByFirefox, launchFirefox } from "./firefox";
import type { Fluency } from "./participant";

const WATCH_MS = 10_000;
const CAPTURED_LINES = 360;

test("Firefox and Chromium see and hear each other", async ({ arrive, cluster, room, onTestFinished }) => {
  const firefox = await launchFirefox();
  onTestFinished(() => firefox.close());
  const max = await arrive("Max", "milan");
  const ana = await joinByFirefox(firefox, { door: cluster.door("zurich"), room, name: "Ana", asIf: "bogota" });
  expect(await ana.pop()).toBe("panama");
  await Promise.all([ana.sees(), max.sees()]);
  await Promise.all([ana.seesFluently(FLUENT_FPS), max.seesFluently(FLUENT_FPS)]);
  const [byFirefox, byChromium] = await Promise.all([ana.fluency(WATCH_MS), max.fluency(WATCH_MS)]);
  const [{ video: inFirefox }, { video: inChromium }] = await Promise.all([ana.counts(), max.counts()]);
  figure(
    `Firefox decodes ${seen(byFirefox, inFirefox)}, Chromium ${seen(byChromium, inChromium)}; ` +
      `audio energy ${byFirefox.audioEnergyPerSecond.toExponential(1)} and ${byChromium.audioEnergyPerSecond.toExponential(1)} per s`,
  );
  expectFluent(byFirefox);
  expectFluent(byChromium);
  // Chromium leaves the largest layer out where it is asked for more layers than it sends of so small a picture.
  expect([lines(inFirefox), lines(inChromium)], "lines of the whole picture").toEqual([CAPTURED_LINES, CAPTURED_LINES]);
  expect(ana.complaints.filter(isFault)).toEqual([]);
});

function lines(video: { height: number }[]): number {
  return Math.max(...video.map(({ height }) => height));
}

function seen({ framesPerSecond, worstSecond }: Fluency, video: { height: number }[]): string {
  return `${framesPerSecond.toFixed(1)} frames/s of ${lines(video)} lines (${worstSecond.toFixed(0)} in the worst second)`;
}
