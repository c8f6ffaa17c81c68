import { expect } from "vitest";

import type { ChromiumParticipant } from "./browser";
import { test } from "./call";
import { figure } from "./figure";
import { eventually } from "./waiting";

/** A node forgets someone whose socket is gone and of whom nothing came for 8 s (`MEDIA_LOST` in the media node). */
const FORGOTTEN_MS = { min: 6000, max: 12_000 };
/** A browser that is closed in order says so: by the socket, or by the end of the peer connection. */
const CLOSED_MS = 2000;
/** The pause in pictures that a planned move may cost. */
const MAX_MOVE_GAP_MS = 500;

test("who closes the browser is gone at once, whose browser crashes after the documented time", async ({ arrive }) => {
  const ana = await arrive("Ana", "bogota");
  const siti = await arrive("Siti", "jakarta");
  const max = await arrive("Max", "milan");
  await max.sees(2);
  const [closedMs, crashedMs] = await Promise.all([
    goneFor(max, "Ana", () => ana.close()),
    goneFor(max, "Siti", () => siti.crash()),
  ]);
  figure(`closed: gone after ${closedMs} ms; crashed: gone after ${crashedMs} ms`);
  expect(closedMs, "closed").toBeLessThanOrEqual(CLOSED_MS);
  expect(crashedMs, "crashed").toBeLessThanOrEqual(FORGOTTEN_MS.max);
  // Sooner would mean that whoever rides through a tunnel is thrown out.
  expect(crashedMs, "crashed").toBeGreaterThanOrEqual(FORGOTTEN_MS.min);
});

// The last of the file: the PoP it drains takes nobody any more.
test("people of a drained PoP are moved to another with hardly a pause", async ({ arrive, cluster }) => {
  const ana = await arrive("Ana", "bogota");
  const max = await arrive("Max", "milan");
  await Promise.all([ana.sees(), max.sees()]);
  expect(await ana.pop()).toBe("panama");
  const told = ana.page.getByText("Moving the call").waitFor({ timeout: 5000 });
  const gaps = [ana, max].map((participant) => participant.longestGap(8000));
  await cluster.drain("panama");
  await told;
  const [own, others] = await Promise.all(gaps);
  figure(`pictures paused for ${own?.gapMs} ms for who moves, ${others?.gapMs} ms for who sees them; now through ${await ana.pop()}`);
  expect(await ana.phase()).toBe("connected");
  expect(await ana.pop()).not.toBe("panama");
  for (const gap of [own, others]) {
    expect(gap?.resumed, gap?.timeline).toBe(true);
    expect(gap?.gapMs, gap?.timeline).toBeLessThanOrEqual(MAX_MOVE_GAP_MS);
  }
});

/** Milliseconds from what happens to someone until they are gone from the page of someone else. */
async function goneFor(by: ChromiumParticipant, name: string, happens: () => Promise<void>): Promise<number> {
  const figures = by.page.getByRole("figure", { name });
  expect(await figures.count(), `${name} on the page`).toBe(1);
  const startedMs = Date.now();
  await happens();
  await eventually(async () => (await figures.count()) === 0, FORGOTTEN_MS.max, `${name} is gone`);
  return Date.now() - startedMs;
}
