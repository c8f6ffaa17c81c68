import {
  CaptureError,
  captureBoth,
  captureCamera,
  captureMicrophone,
  captureScreen,
  type CaptureProblem,
  type ChosenDevices,
} from "./capture";
import { Emitter } from "./emitter";
import type { Devices } from "./environment";
import type { OwnTrack } from "./peer";
import type { Source } from "./protocol.gen";

/** Where the local participant's tracks go: the peer connection of the present stay. */
export interface Publisher {
  publish(source: Source, own: OwnTrack): void;
  unpublish(source: Source): void;
  muted(source: Source, muted: boolean): void;
}

/** One of our own sources as it is now. */
export interface LocalSource {
  readonly track: MediaStreamTrack | undefined;
  /** Whether others can hear or see it, once in a call. */
  readonly on: boolean;
  /** Why it could not be had the last time it was asked for. */
  readonly problem: CaptureProblem | undefined;
}

export type LocalState = Readonly<Record<Source, LocalSource>>;

interface LocalEvents {
  changed: [];
  mediaDevicesError: [source: Source, error: CaptureError];
}

const OFF: LocalSource = { track: undefined, on: false, problem: undefined };

/**
 * Our own tracks, before and in a call. Muting the microphone keeps its capture, so that it is back at once; turning
 * the camera off stops it, so that its light goes out.
 */
export class LocalParticipant extends Emitter<LocalEvents> {
  readonly #devices: Devices | undefined;
  #chosen: ChosenDevices;
  #state: LocalState = { microphone: OFF, camera: OFF, screen: OFF, screen_audio: OFF };
  #publisher: Publisher | undefined;
  #stopped = false;

  constructor(devices: Devices | undefined, chosen: ChosenDevices = {}) {
    super();
    this.#devices = devices;
    this.#chosen = chosen;
  }

  /** A new value at each change. */
  get state(): LocalState {
    return this.#state;
  }

  get chosen(): ChosenDevices {
    return this.#chosen;
  }

  /** Asks for microphone and camera, with one question to the person where the browser allows that. */
  async start(): Promise<void> {
    const { microphone, camera } = await captureBoth(this.#devices, this.#chosen);
    this.#take("microphone", microphone);
    this.#take("camera", camera);
  }

  /** Sends all tracks through another peer connection from now on. */
  publishThrough(publisher: Publisher): void {
    this.#publisher = publisher;
    for (const source of ["microphone", "camera", "screen", "screen_audio"] as const) {
      const { track, on } = this.#state[source];
      const always = source === "microphone" || source === "camera";
      if (always || track !== undefined) publisher.publish(source, { track: track ?? null, muted: !on });
    }
  }

  async setMicrophone(on: boolean): Promise<void> {
    const { track } = this.#state.microphone;
    if (track !== undefined) this.#set("microphone", track, on);
    else if (on) this.#take("microphone", await outcome(captureMicrophone(this.#devices, this.#chosen.microphone)));
  }

  async setCamera(on: boolean): Promise<void> {
    const { track } = this.#state.camera;
    if (on === (track !== undefined)) return;
    if (on) {
      this.#take("camera", await outcome(captureCamera(this.#devices, this.#chosen.camera)));
      return;
    }
    track?.stop();
    this.#set("camera", undefined, false);
  }

  async setScreenShare(on: boolean): Promise<void> {
    if (on === this.#state.screen.on) return;
    if (!on) {
      this.#stopScreen();
      return;
    }
    const captured = await outcome(captureScreen(this.#devices));
    if (captured instanceof CaptureError) {
      this.#take("screen", captured);
      return;
    }
    this.#set("screen", captured.video, true);
    if (captured.audio !== undefined) this.#set("screen_audio", captured.audio, true);
    // The browser's own "Stop sharing" bar.
    captured.video.addEventListener("ended", () => this.#stopScreen(), { once: true });
  }

  /** Uses another microphone or camera from now on. */
  async switchDevice(source: "microphone" | "camera", deviceId: string): Promise<void> {
    this.#chosen = { ...this.#chosen, [source]: deviceId };
    const { track, on } = this.#state[source];
    if (track === undefined && source === "camera") return;
    track?.stop();
    const capture = source === "microphone" ? captureMicrophone : captureCamera;
    this.#take(source, await outcome(capture(this.#devices, deviceId)), on || track === undefined);
  }

  /** Gives every device back, for good: what a person still allows after that is given back at once. */
  stop(): void {
    this.#stopped = true;
    this.#publisher = undefined;
    for (const { track } of Object.values(this.#state)) track?.stop();
    this.#state = { microphone: OFF, camera: OFF, screen: OFF, screen_audio: OFF };
    this.emit("changed");
  }

  #take(source: Source, taken: MediaStreamTrack | CaptureError, on = true): void {
    if (!(taken instanceof CaptureError)) {
      taken.addEventListener("ended", () => void this.#onEnded(source, taken), { once: true });
      this.#set(source, taken, on);
      return;
    }
    this.#set(source, undefined, false, taken.problem);
    this.emit("mediaDevicesError", source, taken);
  }

  /**
   * A device was unplugged, or taken away by the browser; what we stop ourselves does not end like that. Another
   * microphone takes over unasked, so that a voice is not lost. Another camera may show what nobody meant to show.
   */
  async #onEnded(source: Source, track: MediaStreamTrack): Promise<void> {
    if (this.#stopped || this.#state[source].track !== track) return;
    if (source !== "microphone") {
      this.#take(source, new CaptureError("stopped"));
      return;
    }
    const other = await outcome(captureMicrophone(this.#devices, this.#chosen.microphone));
    if (this.#state[source].track === track) this.#take(source, other, this.#state[source].on);
    else if (!(other instanceof CaptureError)) other.stop();
  }

  #set(source: Source, track: MediaStreamTrack | undefined, on: boolean, problem?: CaptureProblem): void {
    if (this.#stopped) {
      track?.stop();
      return;
    }
    const before = this.#state[source];
    // A device is only given back by stopping what was taken from it: twice pressed must not be twice captured.
    if (before.track !== track) before.track?.stop();
    if (track !== undefined) track.enabled = on;
    this.#state = { ...this.#state, [source]: { track, on, problem } };
    if (before.track !== track) this.#publisher?.publish(source, { track: track ?? null, muted: !on });
    if (before.on !== on) this.#publisher?.muted(source, !on);
    this.emit("changed");
  }

  #stopScreen(): void {
    for (const source of ["screen", "screen_audio"] as const) {
      if (this.#state[source].track === undefined) continue;
      this.#state[source].track?.stop();
      this.#state = { ...this.#state, [source]: OFF };
      this.#publisher?.unpublish(source);
    }
    this.emit("changed");
  }
}

async function outcome<Value>(captured: Promise<Value>): Promise<Value | CaptureError> {
  try {
    return await captured;
  } catch (error) {
    return error instanceof CaptureError ? error : new CaptureError("not_available", error);
  }
}
