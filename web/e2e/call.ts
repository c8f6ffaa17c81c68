import { randomUUID } from "node:crypto";

import { expect, test as base } from "vitest";

import { join, launch, type ChromiumParticipant, type JoinOptions } from "./browser";
import { Cluster } from "./cluster";
import type { Fluency } from "./participant";

/** Where the development doors answer as if from, and the PoP nearest to there. */
export const NEAREST = { bogota: "panama", jakarta: "singapore", milan: "zurich" } as const;
export type Place = keyof typeof NEAREST;

/** How someone arrives who does not come as most do. */
export interface Manner extends Pick<JoinOptions, "prepare"> {
  /** The PoP whose door serves their page; zurich unless said otherwise. */
  door?: string;
}

/** A person's way into the room of a test. */
export type Arrive = (name: string, asIf?: Place, manner?: Manner) => Promise<ChromiumParticipant>;

/**
 * A test with what it asks for: a cluster and a Chromium, started once for its file and only if a test of it wants
 * them, a room of its own, and people who arrive there. They are gone after the test, and their pages had no errors.
 */
export const test = base
  /** The domain whose hosts the doors are, with HTTPS; without it they are ports of localhost. */
  .extend("domain", { scope: "file" }, (): string | undefined => undefined)
  .extend("cluster", { scope: "file" }, async ({ domain }, { onCleanup }) => {
    const cluster = await Cluster.start(domain);
    onCleanup(() => cluster.stop());
    return cluster;
  })
  .extend("browser", { scope: "file" }, async ({ domain, cluster }, { onCleanup }) => {
    const browser = await launch(domain === undefined ? undefined : { name: domain, authority: cluster.authority });
    onCleanup(() => browser.close());
    return browser;
  })
  .extend("room", () => `e2e-${randomUUID()}`)
  .extend("arrive", ({ cluster, browser, room }, { onCleanup }): Arrive => {
    const present: ChromiumParticipant[] = [];
    onCleanup(async () => {
      await Promise.all(present.map((participant) => participant.close()));
      const faults = present.flatMap(({ complaints }) => complaints.filter(isFault));
      if (faults.length > 0) throw new Error(`Errors in a page: ${faults.join("\n")}`);
    });
    return async (name, asIf, { door = "zurich", prepare } = {}) => {
      const participant = await join(browser, { door: cluster.door(door), room, name, asIf, prepare });
      present.push(participant);
      return participant;
    };
  });

/** Pictures decoded a second, of 30 that are captured. */
export const FLUENT_FPS = 20;
/**
 * Of the worst second. Less than the mean, because two encoders and two decoders of browsers share two cores with nine
 * processes of three PoPs: one of them may have to wait for a moment. A freeze is below it.
 */
const WORST_FPS = 15;
/** Energy a second: the made-up microphones beep or hum with ten times that, a decoder's comfort noise has a tenth. */
export const AUDIBLE = 1e-3;

/** Video of one person is fluent, and they are heard. */
export function expectFluent({ framesPerSecond, worstSecond, audioEnergyPerSecond }: Fluency): void {
  expect(framesPerSecond, "frames decoded a second").toBeGreaterThanOrEqual(FLUENT_FPS);
  expect(worstSecond, "frames decoded in the worst second").toBeGreaterThanOrEqual(WORST_FPS);
  expect(audioEnergyPerSecond, "audio energy a second").toBeGreaterThan(AUDIBLE);
}

/** A refused connection to a door that was killed is no fault of the page. */
export function isFault(complaint: string): boolean {
  return !/ERR_CONNECTION|WebSocket connection to|Failed to load resource/.test(complaint);
}
