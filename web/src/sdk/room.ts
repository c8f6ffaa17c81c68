import type { CaptureError } from "./capture";
import { Emitter } from "./emitter";
import type { Cancel, Environment } from "./environment";
import type { LocalParticipant } from "./local";
import type {
  Code,
  GuestToken,
  LeaveReason,
  Participant,
  ParticipantId,
  PopEntry,
  PopId,
  ServerMessage,
  Source,
  Tile,
  Welcome,
} from "./protocol.gen";
import {
  advance,
  IDLE,
  type Attempt,
  type Command,
  type EndReason,
  type Failure,
  type ReconnectEvent,
  type ReconnectState,
} from "./reconnect";
import { RoomToken } from "./room-token";
import {
  Roster,
  successors,
  type RemoteParticipant,
  type RemoteTrackPublication,
  type RosterChange,
} from "./roster";
import { Session } from "./session";
import type { Closed } from "./signalling";
import { qualityOf, type ConnectionStats, type Quality } from "./stats";

/**
 * How long the stay before goes on at most once the next one is connected, in milliseconds. Its node ends it when the next
 * has its pictures, or a second after it is connected; the news of it crosses the world.
 */
const HAND_OVER_MS = 1500;
/** How many video slots to offer: enough for the grid, in steps, so that a growing room seldom needs an offer. */
const SLOT_STEPS = [4, 9, 16, 25] as const;

export interface RoomEvents {
  connectionStateChanged: [state: ReconnectState];
  participantJoined: [participant: RemoteParticipant];
  participantLeft: [participant: RemoteParticipant];
  trackPublished: [publication: RemoteTrackPublication, participant: RemoteParticipant];
  trackUnpublished: [publication: RemoteTrackPublication, participant: RemoteParticipant];
  trackMuted: [publication: RemoteTrackPublication, participant: RemoteParticipant];
  slotsChanged: [];
  activeSpeakersChanged: [speakers: readonly ParticipantId[]];
  reconnecting: [];
  reconnected: [];
  popChanged: [pop: PopEntry];
  qualityChanged: [quality: Quality];
  ended: [reason: EndReason];
  mediaDevicesError: [source: Source, error: CaptureError];
  /** Anything at all changed, after the event that says what. */
  changed: [];
}

export interface RoomOptions {
  room: string;
  name: string;
  /** What a door gave to a guest is renewed for as long as the call lasts; a token from elsewhere is used as it is. */
  token: string | GuestToken;
  /** Every PoP, best first. */
  pops: readonly PopEntry[];
  /** Ranks them anew, `current` first unless another is clearly better. Asked when the network changes. */
  rank?: (current: PopId) => Promise<readonly PopEntry[]>;
  /** Who we are, with the devices that are on already. */
  local: LocalParticipant;
}

/**
 * A room as one participant has it: who is there, what they send, and a connection that outlives lost sockets and
 * lost PoPs. It carries out what the reconnect machine decides and keeps the stays it takes.
 */
export class Room extends Emitter<RoomEvents> {
  readonly local: LocalParticipant;
  readonly #environment: Environment;
  readonly #options: RoomOptions;
  readonly #token: RoomToken;
  readonly #roster = new Roster();
  #state: ReconnectState = IDLE;
  /** Every PoP heard of, in the newest order. */
  #pops: readonly PopEntry[];
  #rankWanted = false;
  #ranking = false;
  /** The stay whose media flows, and the one that is to take its place. */
  #current: Session | undefined;
  #next: Session | undefined;
  #self: ParticipantId | undefined;
  /** The stay that the others see: the first that was welcomed, until another has taken its place. */
  #seen: ParticipantId | undefined;
  #cancelHandOver: Cancel | undefined;
  #speakers: readonly ParticipantId[] = [];
  #stats: ConnectionStats | undefined;
  #view: Tile[] = [];
  #cancelWake: Cancel | undefined;
  readonly #stopWatchingNetwork: Cancel;

  constructor(environment: Environment, options: RoomOptions) {
    super();
    this.#environment = environment;
    this.#options = options;
    this.#pops = options.pops;
    const { room, name, token } = options;
    this.#token = new RoomToken(environment, token, { room, name }, () => this.#doors);
    this.local = options.local;
    this.local.on("changed", () => this.emit("changed"));
    this.local.on("mediaDevicesError", (source, error) => this.emit("mediaDevicesError", source, error));
    this.#stopWatchingNetwork = environment.onNetworkChange(() => this.#onNetworkChange());
  }

  join(): void {
    this.#advance({ type: "join", ranking: this.#pops.map((pop) => pop.id) });
  }

  leave(): void {
    // Both: in the middle of a move the others still see the stay that the next has not taken the place of.
    this.#next?.leave();
    this.#current?.leave();
    this.#advance({ type: "leave" });
  }

  /** Says which tracks are shown and how large, most important first. */
  setView(tiles: Tile[]): void {
    if (JSON.stringify(tiles) === JSON.stringify(this.#view)) return;
    this.#view = tiles;
    this.#active?.setView(tiles);
    this.#active?.peer.ensureSlots(this.#videoSlots);
  }

  get name(): string {
    return this.#options.room;
  }

  get state(): ReconnectState {
    return this.#state;
  }

  /** The PoP in use or being tried. */
  get pop(): PopEntry | undefined {
    return this.#pops.find((pop) => pop.id === this.#state.pop);
  }

  get participants(): RemoteParticipant[] {
    return this.#roster.participants;
  }

  /** Our own id in the room, once it has welcomed us. */
  get self(): ParticipantId | undefined {
    return this.#self;
  }

  get speakers(): readonly ParticipantId[] {
    return this.#speakers;
  }

  /** The sound to play: the loudest voices, whoever they are. */
  get voices(): MediaStreamTrack[] {
    return this.#shown?.peer.voices ?? [];
  }

  get stats(): ConnectionStats | undefined {
    return this.#stats;
  }

  get quality(): Quality {
    if (this.#state.media === "lost") return "lost";
    return this.#stats === undefined ? "good" : qualityOf(this.#stats);
  }

  /** The statistics report of the connection whose media flows. */
  getStats(): Promise<RTCStatsReport | undefined> {
    return this.#current?.peer.getStats() ?? Promise.resolve(undefined);
  }

  get #active(): Session | undefined {
    return this.#next ?? this.#current;
  }

  /** The stay whose media is seen and heard: the one before goes on until the next has media too. */
  get #shown(): Session | undefined {
    return this.#current ?? this.#next;
  }

  /** The PoP in use, then the others in their order. */
  get #doors(): PopEntry[] {
    const others = this.#pops.filter((pop) => pop !== this.pop);
    return this.pop === undefined ? others : [this.pop, ...others];
  }

  get #videoSlots(): number {
    const wanted = Math.max(this.#view.length, 1);
    return SLOT_STEPS.find((step) => step >= wanted) ?? SLOT_STEPS[SLOT_STEPS.length - 1] ?? wanted;
  }

  #advance(event: ReconnectEvent): void {
    const before = this.#state;
    const moment = { nowMs: this.#environment.now(), random: this.#environment.random() };
    const { state, commands } = advance(before, event, moment);
    this.#state = state;
    this.#setWake(state.wakeAtMs, moment.nowMs);
    for (const command of commands) this.#carryOut(command);
    if (state.phase === "connected") this.#handOver();
    this.#announce(before);
  }

  #onNetworkChange(): void {
    this.#advance({ type: "networkChanged" });
    this.#rankWanted = true;
    if (!this.#ranking) void this.#rank();
  }

  /** On another network another PoP may be the nearest. Asks once at a time, anew if the network changes meanwhile. */
  async #rank(): Promise<void> {
    const { rank } = this.#options;
    this.#ranking = true;
    while (this.#rankWanted && this.#state.pop !== undefined && this.#state.phase !== "ended") {
      const current = this.#state.pop;
      this.#rankWanted = false;
      // Without an answer the order stays as it is, as with one that is meant for another network or another PoP.
      const ranked = await rank?.(current).catch(() => undefined);
      if (ranked !== undefined && !this.#rankWanted && this.#state.pop === current) this.#onRanked(ranked);
    }
    this.#ranking = false;
  }

  #onRanked(ranked: readonly PopEntry[]): void {
    const ranking = ranked.map((pop) => pop.id);
    // The PoP in use need not be among them.
    this.#pops = [...ranked, ...this.#pops.filter((pop) => !ranking.includes(pop.id))];
    this.#advance({ type: "ranked", ranking });
  }

  #setWake(wakeAtMs: number | undefined, nowMs: number): void {
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    if (wakeAtMs === undefined) return;
    this.#cancelWake = this.#environment.after(Math.max(0, wakeAtMs - nowMs), () => this.#advance({ type: "timer" }));
  }

  #carryOut(command: Command): void {
    switch (command.type) {
      case "open":
        this.#open(command.pop, command.attempt);
        return;
      case "restartIce":
        this.#active?.peer.restartIce();
        return;
      case "end":
        this.#close();
    }
  }

  #open(popId: string, attempt: Attempt): void {
    // What was connected, and is lost again before it has taken over, is the stay to go on from.
    if (this.#cancelHandOver !== undefined) this.#promote();
    if (attempt === "resume") {
      this.#current?.resume();
      return;
    }
    const pop = this.#pops.find((candidate) => candidate.id === popId);
    if (pop === undefined) return;
    this.#next?.close();
    const next = this.#newSession(pop);
    this.#next = next;
    this.local.publishThrough({
      publish: (source, own) => next.peer.publish(source, own),
      unpublish: (source) => next.peer.unpublish(source),
      muted: (source, muted) => next.mute(source, muted),
    });
    next.setView(this.#view);
    next.join(this.#seen);
  }

  #newSession(pop: PopEntry): Session {
    const { room, name } = this.#options;
    // What an earlier stay still says must not be taken for news of the present one.
    const ifActive =
      <Arguments extends unknown[]>(handle: (...args: Arguments) => void) =>
      (...args: Arguments) => {
        if (this.#active === session) handle(...args);
      };
    const session: Session = new Session(
      this.#environment,
      { pop, token: this.#token, room, name, videoSlots: this.#videoSlots },
      {
        welcomed: ifActive((welcome) => this.#onWelcome(welcome)),
        message: ifActive((message) => this.#onMessage(message)),
        closed: (closed) => (this.#active === session ? this.#onClosed(closed) : this.#onEarlierClosed()),
        media: ifActive((media) => this.#advance(MEDIA_EVENTS[media])),
        stats: ifActive((stats) => this.#onStats(stats)),
        broken: ifActive(() => this.#advance({ type: "broken" })),
        expectsMedia: () => this.#expectsMedia(),
      },
    );
    return session;
  }

  /** The stay that was being tried stands. The one before it goes on until its node ends it, if there still is a node. */
  #handOver(): void {
    if (this.#next === undefined) return;
    if (this.#current?.isSignalling !== true) this.#promote();
    else this.#cancelHandOver ??= this.#environment.after(HAND_OVER_MS, () => this.#promote());
  }

  #onEarlierClosed(): void {
    if (this.#cancelHandOver !== undefined) this.#promote();
  }

  #promote(): void {
    this.#cancelHandOver?.();
    this.#cancelHandOver = undefined;
    this.#current?.close();
    this.#current = this.#next;
    this.#next = undefined;
    this.#seen = this.#current?.participant;
    this.#fillSlots();
    this.emit("changed");
  }

  #close(): void {
    this.#cancelHandOver?.();
    this.#next?.close();
    this.#current?.close();
    this.#next = this.#current = undefined;
    this.#stopWatchingNetwork();
    this.#token.stop();
    this.local.stop();
  }

  #onWelcome(welcome: Welcome): void {
    this.#self = welcome.participant;
    this.#seen ??= welcome.participant;
    this.#applyRoster(this.#roster.welcome(welcome.participant, welcome.participants));
    this.#advance({ type: "welcomed" });
  }

  #onMessage(message: ServerMessage): void {
    switch (message.type) {
      case "participant":
        this.#follow(message.participant, message.replaces);
        this.#applyRoster(this.#roster.update(message.participant, message.replaces));
        break;
      case "left":
        this.#applyRoster(this.#roster.remove(message.participant));
        break;
      case "slots":
        this.#fillSlots();
        this.emit("slotsChanged");
        break;
      case "speakers":
        this.#speakers = message.speakers;
        this.emit("activeSpeakersChanged", message.speakers);
        break;
      case "move":
        this.#advance({ type: "move" });
        return;
      case "ended":
        this.#advance({ type: "sessionEnded", reason: AFTER_LEAVING[message.reason] });
        return;
      default:
        return;
    }
    this.emit("changed");
  }

  #onClosed(closed: Closed): void {
    if (closed.kind === "lost") {
      this.#advance({ type: "socketLost" });
      return;
    }
    const failure: Failure = closed.kind === "refused" ? failureOf(closed.code) : { kind: "unreachable" };
    const stood = this.#state.signalling === "up";
    this.#advance(stood ? { type: "sessionEnded", reason: afterRefusal(failure) } : { type: "failed", failure });
  }

  #onStats(stats: ConnectionStats): void {
    const before = this.quality;
    this.#stats = stats;
    if (this.quality !== before) this.emit("qualityChanged", this.quality);
    this.emit("changed");
  }

  /** What was shown of an earlier stay of someone's is shown of the new one, in the same slots. */
  #follow(participant: Participant, replaces: ParticipantId | undefined): void {
    const earlier = replaces === undefined ? undefined : this.#roster.get(replaces);
    if (earlier === undefined) return;
    const tracks = successors(earlier, participant);
    for (const session of [this.#current, this.#next]) session?.follow(tracks);
  }

  #fillSlots(): void {
    const session = this.#shown;
    if (session !== undefined) this.#roster.fillSlots(session.slots, (mid) => session.peer.receiverTrack(mid));
  }

  /** Video that is sent to us flows all the time; voices may pause. */
  #expectsMedia(): boolean {
    const publications = this.#roster.participants.flatMap((participant) => participant.publications);
    return publications.some(({ source, muted, slotState }) => source === "camera" && !muted && slotState === "live");
  }

  #applyRoster(changes: RosterChange[]): void {
    this.#fillSlots();
    for (const change of changes) this.#emitRosterChange(change);
    this.emit("changed");
  }

  #emitRosterChange(change: RosterChange): void {
    switch (change.type) {
      case "joined":
        return this.emit("participantJoined", change.participant);
      case "left":
        return this.emit("participantLeft", change.participant);
      case "published":
        return this.emit("trackPublished", change.publication, change.participant);
      case "unpublished":
        return this.emit("trackUnpublished", change.publication, change.participant);
      case "muted":
        return this.emit("trackMuted", change.publication, change.participant);
      case "updated":
    }
  }

  #announce(before: ReconnectState): void {
    const { phase, pop, reason } = this.#state;
    if (this.#state === before) return;
    const wasTrying = before.phase === "resuming" || before.phase === "restarting";
    const isTrying = phase === "resuming" || phase === "restarting";
    if (isTrying && !wasTrying) this.emit("reconnecting");
    if (phase === "connected" && wasTrying) this.emit("reconnected");
    if (pop !== before.pop && this.pop !== undefined) this.emit("popChanged", this.pop);
    if (phase === "ended" && before.phase !== "ended") this.emit("ended", reason ?? "left");
    this.emit("connectionStateChanged", this.#state);
    this.emit("changed");
  }
}

const MEDIA_EVENTS = {
  up: { type: "mediaUp" },
  lost: { type: "mediaLost" },
  unknown: { type: "mediaUnknown" },
} as const;

/** What to do after the node says that a stay ended: nothing more, a new one there, or a new one elsewhere. */
const AFTER_LEAVING: Record<LeaveReason, EndReason | "elsewhere" | "again"> = {
  left: "left",
  removed: "removed",
  replaced: "replaced",
  connection_lost: "again",
  fault: "again",
  drained: "elsewhere",
  node_lost: "elsewhere",
};

function failureOf(code: Code): Failure {
  switch (code) {
    case "session_gone":
    case "conflict":
      return { kind: "session_gone" };
    case "draining":
    case "unavailable":
    case "rate_limited":
    case "internal":
      return { kind: "busy" };
    case "room_full":
      return { kind: "fatal", reason: "room_full" };
    case "token_expired":
      return { kind: "fatal", reason: "expired" };
    case "unauthorized":
    case "forbidden":
    case "origin_not_allowed":
      return { kind: "fatal", reason: "not_allowed" };
    case "unsupported_version":
      return { kind: "fatal", reason: "outdated" };
    default:
      return { kind: "fatal", reason: "fault" };
  }
}

function afterRefusal(failure: Failure): EndReason | "elsewhere" | "again" {
  if (failure.kind === "fatal") return failure.reason;
  return failure.kind === "session_gone" ? "again" : "elsewhere";
}
