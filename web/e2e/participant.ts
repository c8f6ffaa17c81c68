import type { Room, Source } from "@/sdk";

import { longestGaps, type Sample } from "./gap";
import { eventually, pause } from "./waiting";

/** Runs a function in someone's page, where nothing of the file it stands in is known. */
export type Evaluate = <Value, Argument>(
  inPage: (argument: Argument) => Value | Promise<Value>,
  argument: Argument,
) => Promise<Value>;

type Internals = Window & { __isthmus?: { room: Room }; __offers?: number };

/** Runs in a page before its own scripts: a small picture, since a test machine has two cores, and a count of offers. */
export function instrument(): void {
  // Firefox runs this on its empty first page too, which is no secure context and has no devices.
  if (!window.isSecureContext) return;
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

/** A room's page as a check opens it. */
export function roomLink(door: string, room: string, asIf?: string): string {
  return `${door}/r/${room}?${new URLSearchParams({ debug: "1", ...(asIf === undefined ? {} : { "as-if": asIf }) })}`;
}

export interface InboundVideo {
  framesDecoded: number;
  height: number;
}

export interface MediaCounts {
  atMs: number;
  video: InboundVideo[];
  /** Grows with loudness: silence adds nothing. */
  audioEnergy: number;
}

/** What someone else publishes, and how it arrives. */
export interface Arrival {
  /** Whose it is. */
  name: string;
  source: Source;
  muted: boolean;
  /** Undefined while it stands in no slot. */
  slotState: string | undefined;
  /** `video/VP8`; undefined until something was received. */
  codec: string | undefined;
  framesDecoded: number;
  height: number;
  audioEnergy: number;
}

export interface Fluency {
  /** Pictures decoded a second, of all streams together. */
  framesPerSecond: number;
  /** The same in the worst second: a mean does not tell three frozen seconds. */
  worstSecond: number;
  /** Zero for digital silence. */
  audioEnergyPerSecond: number;
}

export interface Gap {
  /** Without a new picture. */
  gapMs: number;
  /** Without sound. */
  soundGapMs: number;
  /** Whether pictures and sound came again at last. */
  resumed: boolean;
  /** What the room said meanwhile, for whoever asks why it took so long. */
  timeline: string;
}

/** Someone in a call, seen through their page, whichever browser shows it. */
export class Participant {
  readonly evaluate: Evaluate;

  constructor(evaluate: Evaluate) {
    this.evaluate = evaluate;
  }

  /** The PoP the call goes through. */
  pop(): Promise<string | undefined> {
    return this.evaluate(() => (window as Internals).__isthmus?.room.state.pop, undefined);
  }

  phase(): Promise<string | undefined> {
    return this.evaluate(() => (window as Internals).__isthmus?.room.state.phase, undefined);
  }

  /** How many session descriptions this page has offered so far. */
  offers(): Promise<number> {
    return this.evaluate(() => (window as Internals).__offers ?? 0, undefined);
  }

  counts(): Promise<MediaCounts> {
    return this.evaluate(async () => {
      const report = await (window as Internals).__isthmus?.room.getStats();
      const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp");
      const audio = rows.filter((row) => row.kind === "audio");
      return {
        atMs: performance.now(),
        video: rows
          .filter((row) => row.kind === "video")
          .map((row) => ({ framesDecoded: row.framesDecoded ?? 0, height: row.frameHeight ?? 0 })),
        audioEnergy: audio.reduce((total, row) => total + (row.totalAudioEnergy ?? 0), 0),
      };
    }, undefined);
  }

  /** Everything that others publish in the room, each with the statistics of the slot it stands in. */
  arrivals(): Promise<Arrival[]> {
    return this.evaluate(async () => {
      const room = (window as Internals).__isthmus?.room;
      const report = await room?.getStats();
      const inbound = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp");
      const published = room?.participants.flatMap(({ name, publications }) => publications.map((one) => ({ name, ...one })));
      return (published ?? []).map(({ name, source, muted, slotState, mediaTrack }) => {
        const row = inbound.find(({ trackIdentifier }) => trackIdentifier === mediaTrack?.id);
        return {
          name,
          source,
          muted,
          slotState,
          codec: report?.get(row?.codecId)?.mimeType,
          framesDecoded: row?.framesDecoded ?? 0,
          height: row?.frameHeight ?? 0,
          audioEnergy: row?.totalAudioEnergy ?? 0,
        };
      });
    }, undefined);
  }

  /** How one source of someone else arrives; undefined while they do not publish it. */
  async arrival(name: string, source: Source): Promise<Arrival | undefined> {
    return (await this.arrivals()).find((one) => one.name === name && one.source === source);
  }

  async connected(timeoutMs = 20_000): Promise<void> {
    await eventually(async () => (await this.phase()) === "connected", timeoutMs, "the call is connected");
  }

  /** Waits until pictures have been decoded on so many streams. */
  async sees(streams = 1, timeoutMs = 20_000): Promise<void> {
    const decoded = async () => (await this.counts()).video.filter((video) => video.framesDecoded > 0).length;
    await eventually(async () => (await decoded()) >= streams, timeoutMs, `pictures decoded on ${streams} streams`).catch(
      async (error: Error) => {
        throw new Error(`${error.message}; instead: ${await this.situation()}`);
      },
    );
  }

  /** Waits for a second with so many pictures: until a browser has warmed up, and the best layer that its path carries is there. */
  async seesFluently(framesPerSecond: number, timeoutMs = 20_000): Promise<void> {
    const isFluent = async () => (await this.fluency(1000)).framesPerSecond >= framesPerSecond;
    await eventually(isFluent, timeoutMs, `a second of ${framesPerSecond} pictures`);
  }

  /** What the page knows of the call, for whoever asks why it is not as it should be. */
  async situation(): Promise<string> {
    const room = await this.evaluate(() => {
      const { state, participants } = (window as Internals).__isthmus?.room ?? {};
      const publications = participants?.flatMap((participant) =>
        participant.publications.map(({ source, slotState }) => `${participant.name}'s ${source} ${slotState}`),
      );
      return `${state?.phase} through ${state?.pop}, media ${state?.media}; ${publications?.join(", ")}`;
    }, undefined);
    return `${room}; received ${JSON.stringify((await this.counts()).video)}`;
  }

  /** How well the call is seen and heard from now on, for so long, looked at once a second. */
  async fluency(watchMs: number): Promise<Fluency> {
    const before = await this.counts();
    let [after, worstSecond] = [before, Infinity];
    while (after.atMs - before.atMs < watchMs) {
      await pause(1000);
      const now = await this.counts();
      worstSecond = Math.min(worstSecond, (framesDecoded(now) - framesDecoded(after)) / secondsBetween(after, now));
      after = now;
    }
    const seconds = secondsBetween(before, after);
    return {
      framesPerSecond: (framesDecoded(after) - framesDecoded(before)) / seconds,
      worstSecond,
      audioEnergyPerSecond: (after.audioEnergy - before.audioEnergy) / seconds,
    };
  }

  /** The longest times without a new picture and without sound from now on, looked at ten times a second. */
  async longestGap(watchMs: number): Promise<Gap> {
    const seen = await this.evaluate(async (watchFor) => {
      const room = (window as Internals).__isthmus?.room;
      const timeline: string[] = [];
      const startedMs = performance.now();
      const note = (what: string) => timeline.push(`${Math.round(performance.now() - startedMs)} ms ${what}`);
      room?.on("connectionStateChanged", ({ phase, pop, signalling, media }) =>
        note(`${phase} ${pop} signalling ${signalling} media ${media}`),
      );
      room?.on("slotsChanged", () => {
        const publications = room.participants.flatMap((participant) => participant.publications);
        note(`slots ${publications.map(({ source, slotState }) => `${source} ${slotState}`).join(", ")}`);
      });
      const samples: Sample[] = [];
      while (performance.now() - startedMs < watchFor) {
        const askedMs = performance.now();
        const report = await room?.getStats();
        if (performance.now() - askedMs > 250) note(`statistics after ${Math.round(performance.now() - askedMs)} ms`);
        const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp");
        samples.push({
          atMs: rows[0]?.timestamp ?? performance.timeOrigin + performance.now(),
          streams: rows.map((row) => ({
            id: row.id,
            kind: row.kind === "video" ? "picture" : "sound",
            count: (row.kind === "video" ? row.framesDecoded : row.packetsReceived) ?? 0,
            spacing: row.totalInterFrameDelay ?? 0,
            squaredSpacing: row.totalSquaredInterFrameDelay ?? 0,
            // Chromium plays at 48 kHz, whatever it takes sound in at.
            concealed: (row.concealedSamples ?? 0) / 48_000,
          })),
        });
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return { samples, timeline };
    }, watchMs);
    const { pictureMs, soundMs, quietMs } = longestGaps(seen.samples);
    return { gapMs: pictureMs, soundGapMs: soundMs, resumed: quietMs < 1000, timeline: seen.timeline.join("\n") };
  }
}

function framesDecoded(counts: MediaCounts): number {
  return counts.video.reduce((total, video) => total + video.framesDecoded, 0);
}

function secondsBetween(before: MediaCounts, after: MediaCounts): number {
  return (after.atMs - before.atMs) / 1000;
}
