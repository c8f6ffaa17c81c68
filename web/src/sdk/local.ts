import { CaptureError, captureCamera, captureMicrophone, captureScreen } from "./capture";
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

interface LocalEvents {
  changed: [];
  mediaDevicesError: [source: Source, error: CaptureError];
}

/** What a person brings along from the preview. */
export interface InitialMedia {
  microphone?: MediaStreamTrack;
  camera?: MediaStreamTrack;
  microphoneId?: string;
  cameraId?: string;
}

/**
 * Our own tracks. Muting the microphone keeps its capture, so that it is back at once; turning the camera off stops
 * it, so that its light goes out.
 */
export class LocalParticipant extends Emitter<LocalEvents> {
  readonly #devices: Devices | undefined;
  readonly #tracks = new Map<Source, OwnTrack>();
  #chosen: { microphoneId?: string; cameraId?: string };
  #publisher: Publisher | undefined;

  constructor(devices: Devices | undefined, initial: InitialMedia = {}) {
    super();
    this.#devices = devices;
    this.#chosen = { microphoneId: initial.microphoneId, cameraId: initial.cameraId };
    this.#set("microphone", initial.microphone ?? null, initial.microphone === undefined);
    this.#set("camera", initial.camera ?? null, initial.camera === undefined);
  }

  /** Sends all tracks through another peer connection from now on. */
  publishThrough(publisher: Publisher | undefined): void {
    this.#publisher = publisher;
    for (const [source, own] of this.#tracks) publisher?.publish(source, own);
  }

  track(source: Source): MediaStreamTrack | undefined {
    return this.#tracks.get(source)?.track ?? undefined;
  }

  /** Whether others can hear or see the source now. */
  isOn(source: Source): boolean {
    const own = this.#tracks.get(source);
    return own !== undefined && own.track !== null && !own.muted;
  }

  async setMicrophone(on: boolean): Promise<void> {
    const present = this.track("microphone");
    if (present === undefined && on) {
      await this.#capture("microphone", () => captureMicrophone(this.#devices, this.#chosen.microphoneId));
      return;
    }
    if (present !== undefined) this.#set("microphone", present, !on);
  }

  async setCamera(on: boolean): Promise<void> {
    if (on === this.isOn("camera")) return;
    if (on) {
      await this.#capture("camera", () => captureCamera(this.#devices, this.#chosen.cameraId));
      return;
    }
    this.track("camera")?.stop();
    this.#set("camera", null, true);
  }

  async setScreenShare(on: boolean): Promise<void> {
    if (on === this.isOn("screen")) return;
    if (!on) {
      this.#stopScreen();
      return;
    }
    try {
      const { video, audio } = await captureScreen(this.#devices);
      this.#set("screen", video, false);
      if (audio !== undefined) this.#set("screen_audio", audio, false);
      // The browser's own "Stop sharing" bar.
      video.addEventListener("ended", () => this.#stopScreen(), { once: true });
    } catch (error) {
      this.#failed("screen", error);
    }
  }

  /** Uses another microphone or camera from now on. */
  async switchDevice(source: "microphone" | "camera", deviceId: string): Promise<void> {
    this.#chosen = { ...this.#chosen, [`${source}Id`]: deviceId };
    const present = this.#tracks.get(source);
    if (present?.track == null) return;
    present.track.stop();
    const again = source === "microphone" ? captureMicrophone : captureCamera;
    await this.#capture(source, () => again(this.#devices, deviceId), present.muted);
  }

  /** Gives every device back. */
  stop(): void {
    for (const own of this.#tracks.values()) own.track?.stop();
    this.#tracks.clear();
    this.#publisher = undefined;
  }

  async #capture(source: Source, capture: () => Promise<MediaStreamTrack>, muted = false): Promise<void> {
    try {
      this.#set(source, await capture(), muted);
    } catch (error) {
      this.#set(source, null, true);
      this.#failed(source, error);
    }
  }

  #set(source: Source, track: MediaStreamTrack | null, muted: boolean): void {
    const before = this.#tracks.get(source);
    if (track !== null) track.enabled = !muted;
    this.#tracks.set(source, { track, muted });
    if (before === undefined || before.track !== track) this.#publisher?.publish(source, { track, muted });
    if (before !== undefined && before.muted !== muted) this.#publisher?.muted(source, muted);
    this.emit("changed");
  }

  #stopScreen(): void {
    for (const source of ["screen", "screen_audio"] as const) {
      this.#tracks.get(source)?.track?.stop();
      if (this.#tracks.delete(source)) this.#publisher?.unpublish(source);
    }
    this.emit("changed");
  }

  #failed(source: Source, error: unknown): void {
    this.emit("mediaDevicesError", source, error instanceof CaptureError ? error : new CaptureError("not_available", error));
  }
}
