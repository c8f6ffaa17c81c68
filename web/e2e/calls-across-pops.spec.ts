import { expect } from "vitest";

import { expectFluent, FLUENT_FPS, NEAREST, test } from "./call";
import { figure } from "./figure";
import { eventually } from "./waiting";

/** The gap a person may notice when a PoP dies. */
const MAX_GAP_MS = 5000;
/** No second may be missing. */
const MAX_PAUSE_MS = 1000;

test("people near panama and zurich see and hear each other fluently", async ({ arrive }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  expect(await ana.pop()).toBe(NEAREST.bogota);
  expect(await max.pop()).toBe(NEAREST.milan);
  await Promise.all([ana.sees(), max.sees()]);
  const seen = await Promise.all([ana.fluency(10_000), max.fluency(10_000)]);
  const fps = seen.map(({ framesPerSecond, worstSecond }) => `${framesPerSecond.toFixed(1)} (worst ${worstSecond.toFixed(1)})`);
  const energy = seen.map(({ audioEnergyPerSecond }) => audioEnergyPerSecond.toExponential(1));
  figure(`panama decodes ${fps[0]}, zurich ${fps[1]} frames/s for 10 s; audio energy ${energy.join(" and ")} per s`);
  for (const fluency of seen) expectFluent(fluency);
});

test("a third who joins and leaves costs the others no negotiation", async ({ arrive }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  const before = [await ana.offers(), await max.offers()];
  const siti = await arrive("Siti", "jakarta");
  expect(await siti.pop()).toBe(NEAREST.jakarta);
  await Promise.all([siti.sees(2), ana.sees(2), max.sees(2)]);
  await siti.leave();
  await eventually(async () => (await ana.page.getByRole("figure", { name: "Siti" }).count()) === 0, 5000, "Siti is gone");
  const after = [await ana.offers(), await max.offers()];
  figure(`panama and zurich offered ${before.join(" and ")} times before, ${after.join(" and ")} times after singapore came and went`);
  expect(after, "offers of those who stayed").toEqual(before);
});

test("people of a killed PoP are told, and have media through another within 5 s", async ({ arrive, cluster }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  const noticed = ana.page.getByText("Reconnecting").waitFor({ timeout: MAX_GAP_MS });
  const gaps = Promise.all([ana.longestGap(12_000), max.longestGap(12_000)]);
  cluster.kill("panama");
  await noticed;
  const [ofAna, ofMax] = await gaps;
  figure(
    `Ana ${ofAna.gapMs} ms without a picture, then through ${await ana.pop()}; Max ${ofMax.gapMs} ms without one of hers; ` +
      `${ofAna.soundGapMs} and ${ofMax.soundGapMs} ms without sound`,
  );
  for (const { gapMs, soundGapMs, resumed, timeline } of [ofAna, ofMax]) {
    expect(resumed, timeline).toBe(true);
    expect(Math.max(gapMs, soundGapMs), timeline).toBeLessThanOrEqual(MAX_GAP_MS);
  }
  expect(await ana.phase()).toBe("connected");
  expect(await ana.pop()).not.toBe("panama");
  await cluster.restarted("panama");
});

test("a killed door costs no second of media, and signalling comes back by itself", async ({ arrive, cluster }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  await Promise.all([ana.seesFluently(FLUENT_FPS), max.seesFluently(FLUENT_FPS)]);
  const gaps = Promise.all([ana.longestGap(8000), max.longestGap(8000)]);
  cluster.kill("panama-door");
  const killedMs = Date.now();
  await eventually(async () => (await ana.phase()) === "resuming", 3000, "the page notices");
  await eventually(async () => (await ana.phase()) === "connected", 10_000, "signalling is back");
  const backMs = Date.now() - killedMs;
  const [ofAna, ofMax] = await gaps;
  figure(
    `longest pause: pictures ${ofAna.gapMs} ms at Ana's and ${ofMax.gapMs} ms of hers at Max's, ` +
      `sound ${ofAna.soundGapMs} and ${ofMax.soundGapMs} ms; signalling back after ${backMs} ms`,
  );
  for (const { gapMs, soundGapMs, timeline } of [ofAna, ofMax]) {
    expect(Math.max(gapMs, soundGapMs), timeline).toBeLessThan(MAX_PAUSE_MS);
  }
  expect(await ana.pop()).toBe("panama");
  await ana.page.getByRole("button", { name: "Mute", exact: true }).click();
  await max.page.getByRole("figure", { name: "Ana" }).getByRole("img", { name: "Muted" }).waitFor({ timeout: 5000 });
});
