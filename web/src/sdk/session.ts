import type { Cancel, Environment } from "./environment";
import { Peer } from "./peer";
import type {
  ClientMessage,
  Code,
  Hello,
  OfferedTrack,
  PopEntry,
  ServerMessage,
  Slot,
  Source,
  Tile,
  TrackId,
  Welcome,
} from "./protocol.gen";
import type { RoomToken } from "./room-token";
import { Signalling, type Closed } from "./signalling";
import { observe, type StallState } from "./stall";
import { sample, type ConnectionStats, type Totals } from "./stats";

/** How often to look whether media still arrives, in milliseconds. */
const WATCH_MS = 500;
/** The same while the socket is lost, when it matters to know soon. */
const CLOSE_WATCH_MS = 100;
/** The least time over which rates are measured. */
const STATS_MS = 950;
/** How long ICE may be disconnected before it is restarted: it often comes back by itself. */
const ICE_PATIENCE_MS = 2000;
/** When to send an offer again that came too soon after others, in milliseconds. */
const OFFER_AGAIN_MS = 2000;

export interface SessionHandlers {
  welcomed(welcome: Welcome): void;
  message(message: ServerMessage): void;
  closed(closed: Closed): void;
  media(media: "up" | "lost" | "unknown"): void;
  stats(stats: ConnectionStats): void;
  /** Browser or node refused a session description: nothing will come of this connection. */
  broken(error: unknown): void;
  /** Whether something should be arriving now, so that silence is a loss. */
  expectsMedia(): boolean;
}

export interface SessionOptions {
  pop: PopEntry;
  token: RoomToken;
  room: string;
  name: string;
  videoSlots: number;
}

/**
 * One stay through one PoP: a peer connection and the sockets, one after the other, that signal for it. It reports
 * what happens and decides nothing about where to go next.
 */
export class Session {
  readonly pop: PopEntry;
  readonly peer: Peer;
  readonly #environment: Environment;
  readonly #options: SessionOptions;
  readonly #handlers: SessionHandlers;
  #signalling: Signalling | undefined;
  #welcome: Welcome | undefined;
  #view: Tile[] = [];
  #slots: Slot[] = [];
  #socketUp = false;
  #stall: StallState | undefined;
  #totals: Totals | undefined;
  #cancelSample: Cancel | undefined;
  #cancelIcePatience: Cancel | undefined;
  #cancelOffer: Cancel | undefined;
  #closed = false;

  constructor(environment: Environment, options: SessionOptions, handlers: SessionHandlers) {
    this.#environment = environment;
    this.#options = options;
    this.#handlers = handlers;
    this.pop = options.pop;
    this.peer = new Peer(environment, {
      offer: (revision, sdp, tracks) => this.send({ type: "offer", revision, sdp, tracks }),
      candidate: (candidate) => this.send({ type: "candidate", candidate }),
      iceState: (state) => this.#onIceState(state),
      broken: (error) => handlers.broken(error),
    });
  }

  /** Joins anew; `replaces` is the stay this one takes the place of. The offer follows the hello without waiting. */
  join(replaces: string | undefined): void {
    this.#connect({ room: this.#options.room, name: this.#options.name, replaces }, () => {
      this.peer.ensureSlots(this.#options.videoSlots);
      this.peer.start();
    });
  }

  /** Takes the stay up again with another socket. */
  resume(): void {
    const { participant, node } = this.#welcome ?? {};
    if (participant === undefined || node === undefined) return;
    const hello = { room: this.#options.room, name: this.#options.name, resume: { participant, node } };
    this.#connect(hello, () => undefined);
  }

  /** Whether its node can be spoken to. */
  get isSignalling(): boolean {
    return this.#socketUp;
  }

  get participant(): string | undefined {
    return this.#welcome?.participant;
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  send(message: ClientMessage): void {
    this.#signalling?.send(message);
  }

  setView(tiles: Tile[]): void {
    this.#view = tiles;
    if (this.#socketUp) this.send({ type: "view", tiles });
  }

  /** Tracks have taken the place of others: the node shows them in the same slots, and says so itself a moment later. */
  follow(successors: ReadonlyMap<TrackId, TrackId>): void {
    const successor = (track: TrackId) => successors.get(track) ?? track;
    this.#view = this.#view.map((tile) => ({ ...tile, track: successor(tile.track) }));
    this.#slots = this.#slots.map(({ mid, content }) => ({
      mid,
      content: content && { ...content, track: successor(content.track) },
    }));
  }

  mute(source: Source, muted: boolean): void {
    this.peer.setMuted(source, muted);
    for (const own of this.peer.offered) if (own.source === source) this.#sendMute(own);
  }

  leave(): void {
    this.send({ type: "leave" });
    this.close();
  }

  close(): void {
    this.#closed = true;
    this.#cancelSample?.();
    this.#cancelIcePatience?.();
    this.#cancelOffer?.();
    this.#signalling?.close();
    this.peer.close();
  }

  #sendMute({ mid, muted }: OfferedTrack): void {
    this.send({ type: "mute", mid, muted });
  }

  #connect(hello: Omit<Hello, "version" | "token">, opened: () => void): void {
    this.#signalling?.close();
    this.#signalling = new Signalling(
      this.#environment,
      { door: this.pop.url, token: this.#options.token.value, hello },
      {
        opened,
        message: (message) => this.#receive(message),
        closed: (closed) => this.#onClosed(closed),
      },
    );
  }

  #receive(message: ServerMessage): void {
    switch (message.type) {
      case "welcome":
        this.#onWelcome(message);
        return;
      case "answer":
        this.peer.answer(message.revision, message.sdp);
        return;
      case "layers":
        this.peer.applyLayers(message.mid, message.rids);
        return;
      case "slots":
        this.#slots = message.slots;
        break;
      case "error":
        if (message.revision !== undefined) this.#onOfferRefused(message.revision, message.code, message.detail);
        break;
      default:
    }
    this.#handlers.message(message);
  }

  #onWelcome(welcome: Welcome): void {
    this.#welcome = welcome;
    this.#socketUp = true;
    if (welcome.resumed) {
      // What was said while there was no socket.
      this.peer.offerAgain();
      for (const own of this.peer.offered) this.#sendMute(own);
    }
    if (this.#view.length > 0) this.send({ type: "view", tiles: this.#view });
    this.#handlers.welcomed(welcome);
    this.#sampleSoon();
  }

  /** There will be no answer to that offer. */
  #onOfferRefused(revision: number, code: Code, detail: string): void {
    if (revision !== this.peer.unanswered) return;
    if (code !== "rate_limited") {
      this.#handlers.broken(new Error(detail));
      return;
    }
    this.#cancelOffer = this.#environment.after(OFFER_AGAIN_MS, () => {
      // Another socket may have carried it again meanwhile.
      if (revision === this.peer.unanswered) this.peer.offerAgain();
    });
  }

  #onClosed(closed: Closed): void {
    this.#signalling = undefined;
    this.#socketUp = false;
    this.#handlers.closed(closed);
    this.#sampleSoon();
  }

  #onIceState(state: RTCIceConnectionState): void {
    this.#cancelIcePatience?.();
    if (state === "connected" || state === "completed") {
      this.#stall = undefined;
      this.#handlers.media("up");
    } else if (state === "failed") {
      this.#handlers.media("lost");
    } else if (state === "disconnected") {
      this.#cancelIcePatience = this.#environment.after(ICE_PATIENCE_MS, () => this.#handlers.media("lost"));
    }
  }

  #sampleSoon(): void {
    this.#cancelSample?.();
    if (this.#closed) return;
    const delay = this.#socketUp ? WATCH_MS : CLOSE_WATCH_MS;
    this.#cancelSample = this.#environment.after(delay, () => void this.#takeSample());
  }

  async #takeSample(): Promise<void> {
    const report = await this.peer.getStats().catch(() => undefined);
    if (this.#closed) return;
    if (report !== undefined) {
      const nowMs = this.#environment.now();
      const { stats, totals, arrivals } = sample(report as ReadonlyMap<string, unknown>, this.#totals, nowMs);
      this.#watch(nowMs, arrivals);
      if (this.#totals === undefined || nowMs - this.#totals.atMs >= STATS_MS) {
        this.#totals = totals;
        this.#handlers.stats(stats);
      }
    }
    this.#sampleSoon();
  }

  #watch(nowMs: number, arrivals: number): void {
    const before = this.#stall?.verdict;
    const expected = this.#handlers.expectsMedia();
    this.#stall = observe(this.#stall, { nowMs, arrivals, expected, socketUp: this.#socketUp });
    const { verdict } = this.#stall;
    if (verdict === before) return;
    if (verdict === "silent") this.#handlers.media("lost");
    else if (verdict === "unknown") this.#handlers.media("unknown");
    else if (before !== undefined) this.#handlers.media("up");
  }
}
