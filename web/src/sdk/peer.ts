import { cameraLayers, fitLayers } from "./camera-layers";
import type { Environment } from "./environment";
import type { OfferedTrack, Source } from "./protocol.gen";
import { offerDependencies, preferScalable } from "./scalability";

/** Voices received at a time. */
export const AUDIO_SLOTS = 3;

/** A screen keeps its size, or nobody could read it: on a narrow path it is shown less often (three layers by rate). */
const SCREEN_LAYER: RTCRtpEncodingParameters & { scalabilityMode: string } = { maxBitrate: 2_500_000, scalabilityMode: "L1T3" };

/** What one of our own m-lines carries now: nothing while it is muted by stopping its capture. */
export interface OwnTrack {
  track: MediaStreamTrack | null;
  muted: boolean;
}

/** An m-line of ours. */
interface OwnLine {
  readonly transceiver: RTCRtpTransceiver;
  muted: boolean;
  /** The layers that someone shows; undefined before the server has said so. */
  shown?: readonly string[];
}

export interface PeerHandlers {
  offer(revision: number, sdp: string, tracks: OfferedTrack[]): void;
  candidate(candidate: string): void;
  iceState(state: RTCIceConnectionState): void;
  /** The browser refused a session description: nothing will come of this connection. */
  broken(error: unknown): void;
}

/**
 * One peer connection, offered by us alone: our own tracks and the slots we receive in. What stands in the slots
 * changes by signalling; only a new own track, more slots or an ICE restart is a new offer. Offers go one at a time.
 */
export class Peer {
  readonly #environment: Environment;
  readonly #connection: RTCPeerConnection;
  readonly #handlers: PeerHandlers;
  readonly #own = new Map<Source, OwnLine>();
  readonly #slots = { audio: [] as RTCRtpTransceiver[], video: [] as RTCRtpTransceiver[] };
  #revision = 0;
  #started = false;
  #offerWanted = false;
  #negotiating = false;
  #pending: { revision: number; sdp: string; resolve: (sdp: string) => void } | undefined;
  #parameters: Promise<unknown> = Promise.resolve();

  constructor(environment: Environment, handlers: PeerHandlers) {
    this.#environment = environment;
    this.#handlers = handlers;
    this.#connection = environment.createPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.#connection.onicecandidate = ({ candidate }) => handlers.candidate(candidate?.candidate ?? "");
    this.#connection.oniceconnectionstatechange = () => handlers.iceState(this.#connection.iceConnectionState);
  }

  /** Puts a track, or silence, on the m-line of a source; offers it if it is not published yet. */
  publish(source: Source, own: OwnTrack): void {
    const present = this.#own.get(source);
    if (present === undefined || present.transceiver.direction === "inactive") {
      const transceiver = present?.transceiver ?? this.#addSender(source, own.track);
      transceiver.direction = "sendonly";
      this.#own.set(source, { transceiver, muted: own.muted });
      this.#negotiate();
    } else {
      present.muted = own.muted;
    }
    const line = this.#own.get(source);
    if (line === undefined) return;
    const replaced = line.transceiver.sender.replaceTrack(own.track);
    // Another camera may capture another size.
    void replaced.then(() => this.#fitLayers(line), this.#handlers.broken);
  }

  /** Takes a source out of the call; its m-line is kept for the next time. */
  unpublish(source: Source): void {
    const own = this.#own.get(source);
    if (own === undefined || own.transceiver.direction === "inactive") return;
    own.transceiver.direction = "inactive";
    void own.transceiver.sender.replaceTrack(null).catch(this.#handlers.broken);
    this.#negotiate();
  }

  /** Makes sure of at least `video` video slots, and of the audio slots. Slots are never taken away. */
  ensureSlots(video: number): void {
    const missing = { audio: AUDIO_SLOTS - this.#slots.audio.length, video: video - this.#slots.video.length };
    for (const kind of ["audio", "video"] as const) {
      for (let count = missing[kind]; count > 0; count -= 1) {
        const slot = this.#connection.addTransceiver(kind, { direction: "recvonly" });
        if (kind === "video") offerDependencies(slot);
        this.#slots[kind].push(slot);
      }
    }
    if (missing.audio > 0 || missing.video > 0) this.#negotiate();
  }

  get videoSlots(): number {
    return this.#slots.video.length;
  }

  /** What the audio slots play, in m-line order. */
  get voices(): MediaStreamTrack[] {
    return this.#slots.audio.map((slot) => slot.receiver.track);
  }

  receiverTrack(mid: string): MediaStreamTrack | undefined {
    return [...this.#slots.video, ...this.#slots.audio].find((slot) => slot.mid === mid)?.receiver.track;
  }

  setMuted(source: Source, muted: boolean): void {
    const own = this.#own.get(source);
    if (own !== undefined) own.muted = muted;
  }

  /** Our own m-lines as they are offered. */
  get offered(): OfferedTrack[] {
    return [...this.#own].flatMap(([source, { transceiver, muted }]) => {
      const { mid, direction } = transceiver;
      return mid === null || direction === "inactive" ? [] : [{ mid, source, muted }];
    });
  }

  /** Sends only the layers that someone shows. */
  applyLayers(mid: string, rids: readonly string[]): void {
    const line = [...this.#own.values()].find((own) => own.transceiver.mid === mid);
    if (line === undefined) return;
    line.shown = rids;
    this.#fitLayers(line);
  }

  /** Sends the layers that are shown, of those that there are of what is captured. */
  #fitLayers(line: OwnLine): void {
    const { sender } = line.transceiver;
    // One at a time: a second getParameters before the first setParameters is done would be refused.
    this.#parameters = this.#parameters.then(async () => {
      const parameters = sender.getParameters();
      if (parameters.encodings.length < 2 || !fitLayers(parameters.encodings, sender.track, line.shown)) return;
      // Refused only while the connection closes or the sender stops, when it no longer matters.
      await sender.setParameters(parameters).catch(() => undefined);
    });
  }

  restartIce(): void {
    this.#connection.restartIce();
    this.#negotiate();
  }

  /** Begins to offer: there is someone to send offers to now. */
  start(): void {
    this.#started = true;
    this.#negotiate();
  }

  /** The revision of the offer that has no answer yet. */
  get unanswered(): number | undefined {
    return this.#pending?.revision;
  }

  /** Takes the answer to the offer of that revision; one to an earlier offer is of no use. */
  answer(revision: number, sdp: string): void {
    if (this.#pending?.revision === revision) this.#pending.resolve(sdp);
  }

  /** Sends the unanswered offer again, after the socket that carried it or its answer was lost, or it came too soon. */
  offerAgain(): void {
    if (this.#pending === undefined) return;
    this.#revision += 1;
    this.#pending.revision = this.#revision;
    this.#handlers.offer(this.#revision, this.#pending.sdp, this.offered);
  }

  getStats(): Promise<RTCStatsReport> {
    return this.#connection.getStats();
  }

  close(): void {
    this.#connection.onicecandidate = null;
    this.#connection.oniceconnectionstatechange = null;
    this.#connection.close();
  }

  #addSender(source: Source, track: MediaStreamTrack | null): RTCRtpTransceiver {
    switch (source) {
      case "camera":
        return this.#connection.addTransceiver("video", { direction: "sendonly", sendEncodings: cameraLayers(track) });
      case "screen": {
        const screen = this.#connection.addTransceiver("video", { direction: "sendonly", sendEncodings: [SCREEN_LAYER] });
        preferScalable(screen, this.#environment.videoCodecs());
        return screen;
      }
      case "microphone":
      case "screen_audio":
        return this.#connection.addTransceiver("audio", { direction: "sendonly" });
    }
  }

  /** Asks for an offer; several wishes at a time become one. */
  #negotiate(): void {
    this.#offerWanted = true;
    if (this.#started && !this.#negotiating) void this.#run();
  }

  async #run(): Promise<void> {
    this.#negotiating = true;
    try {
      while (this.#offerWanted && this.#connection.signalingState !== "closed") {
        this.#offerWanted = false;
        await this.#connection.setLocalDescription(await this.#connection.createOffer());
        const answer = await this.#exchange(this.#connection.localDescription?.sdp ?? "");
        await this.#connection.setRemoteDescription({ type: "answer", sdp: answer });
      }
    } catch (error) {
      if (this.#connection.signalingState !== "closed") this.#handlers.broken(error);
    } finally {
      this.#negotiating = false;
    }
  }

  #exchange(sdp: string): Promise<string> {
    this.#revision += 1;
    const revision = this.#revision;
    const answered = new Promise<string>((resolve) => {
      this.#pending = { revision, sdp, resolve };
    });
    this.#handlers.offer(revision, sdp, this.offered);
    return answered.finally(() => {
      this.#pending = undefined;
    });
  }
}
