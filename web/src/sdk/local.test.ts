import { describe, expect, test } from "vitest";

import { LocalParticipant } from "./local";
import { scriptedTrack } from "./testing/peer-connection";
import { settled } from "./testing/world";

type Kind = "audio" | "video";

/** Devices that are there unless a test takes them away; every track they gave is kept. */
class Desk {
  readonly taken: MediaStreamTrack[] = [];
  readonly missing = new Set<Kind>();
  readonly local = new LocalParticipant({
    getUserMedia: async ({ audio, video }: MediaStreamConstraints = {}) => {
      const wanted: Kind[] = [...(audio ? ["audio" as const] : []), ...(video ? ["video" as const] : [])];
      if (wanted.some((kind) => this.missing.has(kind))) throw new DOMException("gone", "NotFoundError");
      const tracks = wanted.map((kind) => scriptedTrack(kind));
      this.taken.push(...tracks);
      const of = (kind: Kind) => tracks.filter((track) => track.kind === kind);
      return { getTracks: () => tracks, getAudioTracks: () => of("audio"), getVideoTracks: () => of("video") } as MediaStream;
    },
    getDisplayMedia: () => Promise.reject(new DOMException("no", "NotAllowedError")),
    enumerateDevices: async () => [],
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  });

  static async started(): Promise<Desk> {
    const desk = new Desk();
    await desk.local.start();
    return desk;
  }

  get live(): MediaStreamTrack[] {
    return this.taken.filter(({ readyState }) => readyState === "live");
  }

  /** The browser ends what the device gave. */
  async unplug(source: "microphone" | "camera"): Promise<void> {
    const { track } = this.local.state[source];
    track?.stop();
    track?.dispatchEvent(new Event("ended"));
    await settled();
  }
}

describe("a device", () => {
  test("is given back when it is asked for again", async () => {
    const desk = await Desk.started();
    await desk.local.start();
    expect(desk.live).toHaveLength(2);
    desk.local.stop();
    expect(desk.live).toEqual([]);
  });

  test("asked for twice at a time is held once", async () => {
    const desk = await Desk.started();
    await desk.local.setCamera(false);
    await Promise.all([desk.local.setCamera(true), desk.local.setCamera(true)]);
    expect(desk.live.filter(({ kind }) => kind === "video")).toHaveLength(1);
  });
});

describe("an unplugged device", () => {
  test("is a camera that is off, with the reason, and no other in its place", async () => {
    const desk = await Desk.started();
    const problems: string[] = [];
    desk.local.on("mediaDevicesError", (source, { problem }) => problems.push(`${source} ${problem}`));
    await desk.unplug("camera");
    expect(desk.local.state.camera).toEqual({ track: undefined, on: false, problem: "stopped" });
    expect(problems).toEqual(["camera stopped"]);
  });

  test("is a microphone that another takes the place of, muted if it was", async () => {
    const desk = await Desk.started();
    const before = desk.local.state.microphone.track;
    await desk.local.setMicrophone(false);
    await desk.unplug("microphone");
    const { track, on } = desk.local.state.microphone;
    expect(track).not.toBe(before);
    expect(track).toMatchObject({ readyState: "live", enabled: false });
    expect(on).toBe(false);
  });

  test("is no microphone where there is no other", async () => {
    const desk = await Desk.started();
    desk.missing.add("audio");
    await desk.unplug("microphone");
    expect(desk.local.state.microphone).toEqual({ track: undefined, on: false, problem: "not_found" });
  });

  test("is of no interest once the call is over", async () => {
    const desk = await Desk.started();
    const camera = desk.local.state.camera.track;
    desk.local.stop();
    camera?.dispatchEvent(new Event("ended"));
    await settled();
    expect(desk.live).toEqual([]);
    expect(desk.local.state.camera.problem).toBeUndefined();
  });
});
