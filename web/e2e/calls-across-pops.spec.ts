import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { eventually, join, launch, pause, type Participant } from "./browser";
import { Cluster } from "./cluster";

/** Where the development doors answer as if from, and the PoP nearest to there. */
const NEAREST = { bogota: "panama", jakarta: "singapore", milan: "zurich" } as const;
type Place = keyof typeof NEAREST;

/** The gap a person may notice when a PoP dies. */
const MAX_GAP_MS = 5000;

let cluster: Cluster;
let browser: Browser;
let rooms = 0;

beforeAll(async () => {
  cluster = await Cluster.start();
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await cluster?.stop();
});

let room: string;
const present: Participant[] = [];

beforeEach(() => {
  rooms += 1;
  room = `e2e-${rooms}`;
});

afterEach(async () => {
  const faults = present.flatMap(({ complaints }) => complaints.filter(isFault));
  await Promise.all(present.splice(0).map((participant) => participant.close()));
  if (faults.length > 0) throw new Error(`Errors in a page: ${faults.join("\n")}`);
});

async function arrive(name: string, asIf: Place): Promise<Participant> {
  const participant = await join(browser, { door: cluster.door("zurich"), room, name, asIf });
  present.push(participant);
  return participant;
}

describe("people in different places", () => {
  test("are taken to the nearest PoP, see and hear each other, and cost each other no negotiation", async () => {
    const ana = await arrive("Ana", "bogota");
    const max = await arrive("Max", "milan");
    expect(await ana.pop()).toBe(NEAREST.bogota);
    expect(await max.pop()).toBe(NEAREST.milan);
    await Promise.all([ana.sees(), max.sees()]);
    await expectFluent([ana, max], 1);

    const before = [await ana.offers(), await max.offers()];
    const siti = await arrive("Siti", "jakarta");
    expect(await siti.pop()).toBe(NEAREST.jakarta);
    await Promise.all([siti.sees(2), ana.sees(2), max.sees(2)]);
    await siti.leave();
    await eventually(async () => (await ana.page.getByRole("figure", { name: "Siti" }).count()) === 0, 5000, "Siti is gone");
    expect([await ana.offers(), await max.offers()], "offers of those who stayed").toEqual(before);
  });
});

describe("when a PoP is killed", () => {
  test("its people are told, and have media through another within 5 s", async () => {
    const ana = await arrive("Ana", "bogota");
    const max = await arrive("Max", "milan");
    await Promise.all([ana.sees(), max.sees()]);
    const noticed = ana.page.getByText("Reconnecting").waitFor({ timeout: MAX_GAP_MS });
    const gap = ana.longestGap(12_000);
    cluster.kill("panama");
    await noticed;
    const { gapMs, resumed, timeline } = await gap;
    process.stdout.write(`calls-across-pops gap after SIGKILL of a PoP: ${gapMs} ms\n`);
    expect(resumed, "pictures after the kill").toBe(true);
    expect(gapMs, timeline.join("\n")).toBeLessThanOrEqual(MAX_GAP_MS);
    expect(await ana.phase()).toBe("connected");
    expect(await ana.pop()).not.toBe("panama");
    await cluster.restarted("panama");
  });
});

describe("when only a door is killed", () => {
  test("no second of media is missing, and signalling comes back by itself", async () => {
    const ana = await arrive("Ana", "bogota");
    const max = await arrive("Max", "milan");
    await Promise.all([ana.sees(), max.sees()]);
    await pause(2000);
    const gap = ana.longestGap(8000);
    cluster.kill("panama-door");
    await eventually(async () => (await ana.phase()) === "resuming", 3000, "the page notices");
    await eventually(async () => (await ana.phase()) === "connected", 10_000, "signalling is back");
    const { gapMs } = await gap;
    process.stdout.write(`calls-across-pops longest pause over a door's death: ${gapMs} ms\n`);
    expect(gapMs).toBeLessThan(1000);
    expect(await ana.pop()).toBe("panama");
    await ana.page.getByRole("button", { name: "Mute", exact: true }).click();
    await max.page.getByRole("figure", { name: "Ana" }).getByRole("img", { name: "Muted" }).waitFor({ timeout: 5000 });
  });
});

/** Each decodes 20 pictures a second or more on so many streams for 10 s, and hears more than silence. */
async function expectFluent(participants: Participant[], streams: number): Promise<void> {
  const before = await Promise.all(participants.map((participant) => participant.counts()));
  await pause(10_000);
  const after = await Promise.all(participants.map((participant) => participant.counts()));
  after.forEach((counts, index) => {
    const earlier = before[index];
    if (earlier === undefined) return;
    const seconds = (counts.atMs - earlier.atMs) / 1000;
    const framesPerSecond = (counts.framesDecoded - earlier.framesDecoded) / seconds;
    const loudness = (counts.audioEnergy - earlier.audioEnergy) / seconds;
    process.stdout.write(`calls-across-pops decoded ${framesPerSecond.toFixed(1)} fps, audio energy ${loudness.toExponential(1)}/s\n`);
    expect(framesPerSecond).toBeGreaterThanOrEqual(20 * streams);
    // The fake microphone beeps once a second; digital silence has no energy at all.
    expect(loudness).toBeGreaterThan(1e-5);
  });
}

/** A refused connection to a door that was killed is no fault of the page. */
function isFault(complaint: string): boolean {
  return !/ERR_CONNECTION|WebSocket connection to|Failed to load resource/.test(complaint);
}
