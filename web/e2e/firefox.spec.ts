import { expect } from "vitest";

import { expectFluent, FLUENT_FPS, isFault, test } from "./call";
import { figure } from "./figure";
import { joinByFirefox, launchFirefox } from "./firefox";
import type { Fluency } from "./participant";

const WATCH_MS = 10_000;

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
  expect(ana.complaints.filter(isFault)).toEqual([]);
});

function seen({ framesPerSecond, worstSecond }: Fluency, video: { height: number }[]): string {
  const height = Math.max(...video.map((stream) => stream.height));
  return `${framesPerSecond.toFixed(1)} frames/s of ${height} lines (${worstSecond.toFixed(0)} in the worst second)`;
}
