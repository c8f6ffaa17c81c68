import { chromium, type Browser, type Page } from "playwright-core";

import type { Room } from "@/sdk";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

/** A browser with a made-up camera and microphone, 30 pictures per second and a beep, that asks nobody. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream=fps=30",
      "--autoplay-policy=no-user-gesture-required",
      "--disable-background-timer-throttling",
      "--disable-renderer-backgrounding",
    ],
  });
}

/** What the page says that it should not: errors, and what the content security policy refused. */
export function complaintsOf(page: Page): string[] {
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  return complaints;
}

export interface JoinOptions {
  /** Origin of the door that serves the page. */
  door: string;
  room: string;
  name: string;
  /** The place a development door emulates. */
  asIf?: string;
}

/** Goes the way a person goes: opens the link, says a name, joins. */
export async function join(browser: Browser, options: JoinOptions): Promise<Participant> {
  const context = await browser.newContext({ viewport: { width: 640, height: 480 } });
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  await page.addInitScript(instrument);
  const query = new URLSearchParams({ debug: "1", ...(options.asIf === undefined ? {} : { "as-if": options.asIf }) });
  await page.goto(`${options.door}/r/${options.room}?${query}`);
  await page.getByLabel("Your name").fill(options.name);
  await page.getByRole("button", { name: "Join" }).click();
  await page.getByRole("button", { name: "Leave" }).waitFor();
  await page.waitForFunction(() => (window as Internals).__isthmus?.room.state.phase === "connected");
  return new Participant(page, complaints);
}

/** Runs in the page before its own scripts: a small picture, since a test machine has two cores, and a count of offers. */
function instrument(): void {
  const capture = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (constraints = {}) =>
    capture({ ...constraints, ...(constraints.video ? { video: { width: 640, height: 360, frameRate: 30 } } : {}) });

  const internals = window as Internals;
  internals.__offers = 0;
  const apply = RTCPeerConnection.prototype.setLocalDescription;
  RTCPeerConnection.prototype.setLocalDescription = function count(description) {
    internals.__offers = (internals.__offers ?? 0) + 1;
    return Reflect.apply(apply, this, [description]) as Promise<void>;
  };
}

export interface InboundVideo {
  mid: string;
  framesDecoded: number;
  height: number;
  rid: string | undefined;
}

export interface MediaCounts {
  atMs: number;
  video: InboundVideo[];
  framesDecoded: number;
  audioPackets: number;
  /** Grows with loudness: silence adds nothing. */
  audioEnergy: number;
}

type Internals = Window & { __isthmus?: { room: Room }; __offers?: number };

/** Someone in a call, seen through their page. */
export class Participant {
  readonly page: Page;
  readonly complaints: string[];

  constructor(page: Page, complaints: string[]) {
    this.page = page;
    this.complaints = complaints;
  }

  /** The PoP the call goes through. */
  pop(): Promise<string | undefined> {
    return this.page.evaluate(() => (window as Internals).__isthmus?.room.state.pop);
  }

  phase(): Promise<string | undefined> {
    return this.page.evaluate(() => (window as Internals).__isthmus?.room.state.phase);
  }

  /** How many session descriptions this page has offered so far. */
  offers(): Promise<number> {
    return this.page.evaluate(() => (window as Internals).__offers ?? 0);
  }

  counts(): Promise<MediaCounts> {
    return this.page.evaluate(async () => {
      const report = await (window as Internals).__isthmus?.room.getStats();
      const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp");
      const sum = (kind: string, field: string) =>
        rows.filter((row) => row.kind === kind).reduce((total, row) => total + (row[field] ?? 0), 0);
      return {
        atMs: performance.now(),
        video: rows
          .filter((row) => row.kind === "video")
          .map((row) => ({ mid: row.mid, framesDecoded: row.framesDecoded ?? 0, height: row.frameHeight ?? 0, rid: row.rid })),
        framesDecoded: sum("video", "framesDecoded"),
        audioPackets: sum("audio", "packetsReceived"),
        audioEnergy: sum("audio", "totalAudioEnergy"),
      };
    });
  }

  /** Waits until at least so many pictures have been decoded on `streams` streams. */
  async sees(streams = 1, timeoutMs = 20_000): Promise<void> {
    const decoded = async () => (await this.counts()).video.filter((video) => video.framesDecoded > 0).length;
    await eventually(async () => (await decoded()) >= streams, timeoutMs, `${streams} pictures decoded`);
  }

  /** The longest time without a new picture from now on, by the page's own clock, looked at ten times a second. */
  longestGap(watchMs: number): Promise<{ gapMs: number; resumed: boolean; timeline: string[] }> {
    return this.page.evaluate(async (watchFor) => {
      // All of this runs in the page, where nothing of this file is known.
      // oxlint-disable-next-line unicorn/consistent-function-scoping
      const decoded = async () => {
        const report = await (window as Internals).__isthmus?.room.getStats();
        const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp" && row.kind === "video");
        return rows.reduce((total, row) => total + (row.framesDecoded ?? 0), 0);
      };
      const startedMs = performance.now();
      const timeline: string[] = [];
      const note = (what: string) => timeline.push(`${Math.round(performance.now() - startedMs)} ms ${what}`);
      const room = (window as Internals).__isthmus?.room;
      room?.on("connectionStateChanged", (state) =>
        note(`${state.phase} ${state.pop} signalling ${state.signalling} media ${state.media}`),
      );
      room?.on("slotsChanged", () => {
        const publications = room.participants.flatMap((participant) => participant.publications);
        note(`slots ${publications.map(({ source, slotState }) => `${source} ${slotState}`).join(", ")}`);
      });
      let lastNewMs = startedMs;
      let frames = await decoded();
      let gapMs = 0;
      while (performance.now() - startedMs < watchFor) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        const now = await decoded();
        // A new connection counts from zero again: any change is a new picture.
        if (now !== frames && now > 0) {
          if (performance.now() - lastNewMs > 500) note(`picture after ${Math.round(performance.now() - lastNewMs)} ms`);
          gapMs = Math.max(gapMs, performance.now() - lastNewMs);
          lastNewMs = performance.now();
          frames = now;
        }
      }
      const sinceMs = performance.now() - lastNewMs;
      return { gapMs: Math.round(Math.max(gapMs, sinceMs)), resumed: sinceMs < 1000, timeline };
    }, watchMs);
  }

  async leave(): Promise<void> {
    await this.page.getByRole("button", { name: "Leave" }).click();
    await this.page.getByRole("heading", { name: "You left the call" }).waitFor();
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}

/** Waits for a condition; fails with what was waited for. */
export async function eventually(
  condition: () => Promise<boolean> | boolean,
  timeoutMs: number,
  what: string,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${what}`);
    await pause(100);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
