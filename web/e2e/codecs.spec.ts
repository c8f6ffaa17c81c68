import { expect } from "vitest";

import type { ChromiumParticipant } from "./browser";
import { AUDIBLE, test } from "./call";
import { notingVoices, receiving, sending, voicesOf } from "./codecs";
import { figure } from "./figure";
import { eventually, pause } from "./waiting";

const CODECS = ["VP8", "H264", "VP9", "AV1"] as const;
/** Motion, still: encoders and decoders of four codecs run in software, on the cores that the cluster runs on. */
const MIN_FPS = 15;
const WATCH_MS = 4000;

interface Seen {
  codec: string | undefined;
  framesPerSecond: number;
  audioEnergyPerSecond: number;
}

test("every video codec is seen in another PoP, and the voice comes with redundancy", async ({ arrive }) => {
  const max = await arrive("Max", "milan", { prepare: notingVoices });
  const seen: Seen[] = [];
  for (const codec of CODECS) {
    const ana = await arrive(codec, "bogota", { prepare: sending(`video/${codec}`) });
    seen.push(await watch(max, codec));
    await ana.leave();
  }
  const voices = await voicesOf(max);
  const rates = seen.map(({ codec, framesPerSecond }) => `${codec} ${framesPerSecond.toFixed(1)} frames/s`);
  figure(`${rates.join(", ")}; voices by ${voices.join(", ")}`);
  expect(voices, "what the voices come in").toEqual(["audio/red"]);
  expect(seen.map(({ codec }) => codec)).toEqual(CODECS.map((codec) => `video/${codec}`));
  for (const { codec, framesPerSecond, audioEnergyPerSecond } of seen) {
    expect(framesPerSecond, `frames of ${codec} decoded a second`).toBeGreaterThanOrEqual(MIN_FPS);
    expect(audioEnergyPerSecond, `audio energy a second beside ${codec}`).toBeGreaterThan(AUDIBLE);
  }
});

test("a picture in a codec that the browser has not is said to be so, and the voice comes all the same", async ({ arrive }) => {
  const max = await arrive("Max", "milan", { prepare: receiving("video/VP8") });
  const ana = await arrive("Ana", "bogota", { prepare: sending("video/AV1") });
  await ana.sees();
  const startedMs = Date.now();
  await max.page.getByText("this browser cannot show it").waitFor({ timeout: 10_000 });
  const toldMs = Date.now() - startedMs;
  const { audioEnergyPerSecond } = await watch(max, "Ana");
  const picture = await max.arrival("Ana", "camera");
  figure(
    `the page said so ${toldMs} ms after the call stood: slot ${picture?.slotState}, ${picture?.framesDecoded} frames, ` +
      `audio energy ${audioEnergyPerSecond.toExponential(1)} per s`,
  );
  expect(picture).toMatchObject({ slotState: "unsupported", framesDecoded: 0 });
  expect(audioEnergyPerSecond, "audio energy a second").toBeGreaterThan(AUDIBLE);
});

/** How someone is seen and heard for a while, from when they are heard on; and seen, if their picture can be. */
async function watch(by: ChromiumParticipant, name: string): Promise<Seen> {
  const look = async () => ({ camera: await by.arrival(name, "camera"), voice: await by.arrival(name, "microphone") });
  await eventually(
    async () => {
      const { camera, voice } = await look();
      const pictured = camera?.slotState === "unsupported" || (camera?.framesDecoded ?? 0) > 0;
      return pictured && (voice?.audioEnergy ?? 0) > 0;
    },
    20_000,
    `${name} is seen and heard`,
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}; instead: ${await by.situation()}`);
  });
  const before = await look();
  await pause(WATCH_MS);
  const after = await look();
  const perSecond = (from = 0, to = 0) => ((to - from) * 1000) / WATCH_MS;
  return {
    codec: after.camera?.codec,
    framesPerSecond: perSecond(before.camera?.framesDecoded, after.camera?.framesDecoded),
    audioEnergyPerSecond: perSecond(before.voice?.audioEnergy, after.voice?.audioEnergy),
  };
}
