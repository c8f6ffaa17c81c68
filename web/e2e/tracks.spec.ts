import { expect } from "vitest";

import type { Source } from "@/sdk";

import type { ChromiumParticipant } from "./browser";
import { AUDIBLE, FLUENT_FPS, test } from "./call";
import { figure } from "./figure";
import { eventually, pause } from "./waiting";

const WATCH_MS = 3000;
/** The made-up microphone beeps once in this time. */
const BEEP_MS = 1000;
/** How long what someone pressed may take to be seen by the others. */
const SOON_MS = 5000;
/** A screen is captured less often than a face. */
const MIN_SCREEN_FPS = 5;

test("a shared screen is seen beside the camera, goes when it is stopped, and can be shared again", async ({ arrive }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  const sharedMs = await share(ana, max);
  const [screen, beside] = await Promise.all([rate(max, "Ana", "screen"), rate(max, "Ana", "camera")]);
  const stoppedMs = await stopSharing(ana, max);
  const alone = await rate(max, "Ana", "camera");
  const againMs = await share(ana, max);
  figure(
    `screen seen after ${sharedMs} ms at ${screen.frames.toFixed(1)} frames/s, camera beside it ${beside.frames.toFixed(1)}; ` +
      `gone ${stoppedMs} ms after Stop sharing, camera ${alone.frames.toFixed(1)}; seen again after ${againMs} ms`,
  );
  expect(screen.frames, "frames of the screen a second").toBeGreaterThanOrEqual(MIN_SCREEN_FPS);
  expect(beside.frames, "frames of the camera a second beside the screen").toBeGreaterThanOrEqual(FLUENT_FPS);
  expect(alone.frames, "frames of the camera a second after the screen").toBeGreaterThanOrEqual(FLUENT_FPS);
});

test("who is muted is not heard and who turns the camera off is not seen, until they undo it", async ({ arrive }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  const heard = await rate(max, "Ana", "microphone");
  await press(ana, "Mute");
  await becomes(max, "microphone", true);
  // What was on its way is still heard; between two beeps it is quiet for less than this.
  await soon(max, async () => (await rate(max, "Ana", "microphone", BEEP_MS)).energy < AUDIBLE, "Ana is not heard");
  const muted = await rate(max, "Ana", "microphone");
  await press(ana, "Unmute");
  await becomes(max, "microphone", false);
  const unmuted = await rate(max, "Ana", "microphone");

  await press(ana, "Turn camera off");
  await becomes(max, "camera", true);
  const off = await rate(max, "Ana", "camera");
  await press(ana, "Turn camera on");
  const { framesDecoded: before = 0 } = (await max.arrival("Ana", "camera")) ?? {};
  const backMs = await soon(
    max,
    async () => ((await max.arrival("Ana", "camera"))?.framesDecoded ?? 0) > before,
    "Ana's camera is seen again",
  );
  const on = await rate(max, "Ana", "camera");
  figure(
    `audio energy per s ${[heard, muted, unmuted].map(({ energy }) => energy.toExponential(1)).join(", ")} heard, muted and unmuted; ` +
      `frames/s with the camera off ${off.frames.toFixed(1)}, on again ${on.frames.toFixed(1)} after ${backMs} ms`,
  );
  expect(heard.energy, "audio energy a second").toBeGreaterThan(AUDIBLE);
  expect(muted.energy, "audio energy a second while muted").toBeLessThan(AUDIBLE);
  expect(unmuted.energy, "audio energy a second after that").toBeGreaterThan(AUDIBLE);
  expect(off.frames, "frames a second with the camera off").toBe(0);
  expect(on.frames, "frames a second with the camera on again").toBeGreaterThanOrEqual(FLUENT_FPS);
});

/** How much came of one source of someone for a while, each second. */
async function rate(
  by: ChromiumParticipant,
  name: string,
  source: Source,
  watchMs = WATCH_MS,
): Promise<{ frames: number; energy: number }> {
  const before = await by.arrival(name, source);
  await pause(watchMs);
  const after = await by.arrival(name, source);
  const perSecond = (from = 0, to = 0) => ((to - from) * 1000) / watchMs;
  return {
    frames: perSecond(before?.framesDecoded, after?.framesDecoded),
    energy: perSecond(before?.audioEnergy, after?.audioEnergy),
  };
}

async function press(who: ChromiumParticipant, name: string): Promise<void> {
  await who.page.getByRole("button", { name, exact: true }).click();
}

/** Waits until `by` notices it; returns how long that took, in milliseconds. */
async function soon(
  by: ChromiumParticipant,
  condition: () => Promise<boolean>,
  what: string,
  withinMs = SOON_MS,
): Promise<number> {
  const startedMs = Date.now();
  await eventually(condition, withinMs, what).catch(async (error: Error) => {
    throw new Error(`${error.message}; instead: ${await by.situation()}`);
  });
  return Date.now() - startedMs;
}

async function share(ana: ChromiumParticipant, max: ChromiumParticipant): Promise<number> {
  await press(ana, "Share screen");
  const tookMs = await soon(
    max,
    async () => ((await max.arrival("Ana", "screen"))?.framesDecoded ?? 0) > 0,
    "Ana's screen is seen",
    SOON_MS,
  );
  expect(await max.page.getByRole("figure", { name: "Screen of Ana" }).count(), "the screen on the page").toBe(1);
  return tookMs;
}

async function stopSharing(ana: ChromiumParticipant, max: ChromiumParticipant): Promise<number> {
  await press(ana, "Stop sharing");
  const tookMs = await soon(max, async () => (await max.arrival("Ana", "screen")) === undefined, "Ana's screen is gone");
  await max.page.getByRole("figure", { name: "Screen of Ana" }).waitFor({ state: "detached", timeout: SOON_MS });
  return tookMs;
}

async function becomes(by: ChromiumParticipant, source: Source, muted: boolean): Promise<void> {
  await soon(by, async () => (await by.arrival("Ana", source))?.muted === muted, `Ana's ${source} is ${muted ? "" : "not "}muted`);
}
