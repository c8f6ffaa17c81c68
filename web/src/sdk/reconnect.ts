import type { PopId } from "./protocol.gen";

/**
 * Whether and where to connect next, as a pure state machine: events and the time go in, the next state and commands
 * come out. The room carries the commands out and feeds back what came of them.
 *
 * A lost socket is taken up again on the same PoP ("resume"), because the media goes on without it. Only a PoP that
 * is out of reach with its media gone too, or that says so, is left for the next best ("restart").
 */

/** Delays before the attempts to resume, in milliseconds; the last repeats. Jittered by up to a fifth. */
export const RETRY_DELAYS_MS = [0, 300, 1200, 2700, 4800] as const;
/** How long a socket may be retried while its media still flows; below the node's grace of 30 s. */
export const RESUME_PATIENCE_MS = 20_000;
/** How long media may be gone while signalling works and ICE restarts, before another PoP is tried. */
export const MEDIA_PATIENCE_MS = 1500;
/** How long an attempt may take to bring media up once its signalling stands. */
export const MEDIA_SETUP_MS = 8000;
/** How long to go on trying every PoP before giving up. */
export const GIVE_UP_MS = 60_000;

export type Phase = "idle" | "connecting" | "connected" | "resuming" | "restarting" | "ended";

/** Why a stay is over. */
export type EndReason =
  | "left"
  | "removed"
  | "replaced"
  | "unreachable"
  | "media_blocked"
  | "room_full"
  | "rate_limited"
  | "not_allowed"
  | "expired"
  | "outdated"
  | "fault";

/** Why an attempt came to nothing. A fatal one is not worth repeating anywhere. */
export type Failure =
  | { kind: "unreachable" }
  | { kind: "busy" }
  | { kind: "session_gone" }
  | { kind: "fatal"; reason: EndReason };

/** `join` is the first stay, `resume` takes up the same stay, `restart` is a new stay in place of the old. */
export type Attempt = "join" | "resume" | "restart";

export interface ReconnectState {
  readonly phase: Phase;
  /** The PoP in use or being tried. */
  readonly pop: PopId | undefined;
  /** Every PoP, best first. */
  readonly ranking: readonly PopId[];
  /** `waiting`: for the time in `wakeAtMs`; `opening`: an attempt is under way. */
  readonly signalling: "down" | "waiting" | "opening" | "up";
  /** `unknown`: nothing need be flowing, so silence says nothing. */
  readonly media: "up" | "lost" | "unknown";
  /** While restarting: the earlier stay's media still flows. */
  readonly held: boolean;
  /** Attempts that failed, one after the other, in this phase. */
  readonly failures: number;
  /** PoPs tried in this round of a join or restart. */
  readonly tried: readonly PopId[];
  /** When the phase began. */
  readonly sinceMs: number;
  /** When to send a `timer` event. */
  readonly wakeAtMs: number | undefined;
  readonly reason: EndReason | undefined;
}

export type ReconnectEvent =
  | { type: "join"; ranking: readonly PopId[] }
  | { type: "welcomed" }
  | { type: "failed"; failure: Failure }
  | { type: "socketLost" }
  | { type: "mediaUp" }
  | { type: "mediaLost" }
  | { type: "mediaUnknown" }
  | { type: "networkChanged" }
  | { type: "timer" }
  | { type: "move" }
  | { type: "ranked"; ranking: readonly PopId[] }
  | { type: "broken" }
  | { type: "sessionEnded"; reason: EndReason | "elsewhere" | "again" }
  | { type: "leave" };

export type Command = { type: "open"; pop: PopId; attempt: Attempt } | { type: "restartIce" } | { type: "end" };

export interface Step {
  state: ReconnectState;
  commands: Command[];
}

/** The time and chance of one step. */
export interface Moment {
  nowMs: number;
  /** From 0 to 1. */
  random: number;
}

export const IDLE: ReconnectState = {
  phase: "idle",
  pop: undefined,
  ranking: [],
  signalling: "down",
  media: "unknown",
  held: false,
  failures: 0,
  tried: [],
  sinceMs: 0,
  wakeAtMs: undefined,
  reason: undefined,
};

export function advance(state: ReconnectState, event: ReconnectEvent, moment: Moment): Step {
  if (state.phase === "ended") return stay(state);
  switch (event.type) {
    case "join":
      return state.phase === "idle" ? begin({ ...state, ranking: event.ranking }, "connecting", [], moment) : stay(state);
    case "leave":
      return end(state, "left");
    case "welcomed":
      return settle({ ...state, signalling: "up", failures: 0 }, moment);
    case "mediaUp":
      return settle({ ...state, media: "up" }, moment);
    case "mediaUnknown":
      return state.media === "up" ? onMediaUnknown({ ...state, media: "unknown" }, moment) : stay(state);
    case "mediaLost":
      return onMediaLost({ ...state, media: "lost" }, moment);
    case "socketLost":
      return onSocketLost(state, moment);
    case "failed":
      return onFailed(state, event.failure, moment);
    case "networkChanged":
      return onNetworkChanged(state, moment);
    case "timer":
      return onTimer({ ...state, wakeAtMs: undefined }, moment);
    case "move":
      return state.phase === "connected" ? elsewhere(state, moment) : stay(state);
    case "ranked":
      return onRanked(state, event.ranking, moment);
    case "broken":
      return onBroken(state, moment);
    case "sessionEnded":
      return onSessionEnded(state, event.reason, moment);
  }
}

function stay(state: ReconnectState, ...commands: Command[]): Step {
  return { state, commands };
}

function end(state: ReconnectState, reason: EndReason): Step {
  const ended = { ...state, phase: "ended", reason, signalling: "down", wakeAtMs: undefined } as const;
  return stay(ended, { type: "end" });
}

/** Everything an attempt needs is there, or what is missing gets a time limit. */
function settle(state: ReconnectState, { nowMs }: Moment): Step {
  if (state.phase === "connected" || state.signalling !== "up") return stay(state);
  const mediaStands = state.media === "up" || (state.phase === "resuming" && state.media === "unknown");
  if (mediaStands) {
    return stay({ ...state, phase: "connected", held: false, failures: 0, tried: [], wakeAtMs: undefined, sinceMs: nowMs });
  }
  if (state.phase === "resuming") {
    return stay({ ...state, wakeAtMs: nowMs + MEDIA_PATIENCE_MS }, { type: "restartIce" });
  }
  return stay({ ...state, wakeAtMs: nowMs + MEDIA_SETUP_MS });
}

function onMediaLost(state: ReconnectState, moment: Moment): Step {
  const limited = { ...state, wakeAtMs: moment.nowMs + MEDIA_PATIENCE_MS };
  switch (state.phase) {
    case "connected":
      return stay({ ...limited, phase: "resuming", failures: 0, sinceMs: moment.nowMs }, { type: "restartIce" });
    case "resuming":
      if (state.signalling === "up") return stay(state);
      if (isDead(state)) return elsewhere(state, moment);
      return state.signalling === "opening" ? stay(limited) : stay(state);
    default:
      return stay(state);
  }
}

/** Nothing flows that would have to: the media no longer speaks for a PoP whose door is silent. */
function onMediaUnknown(state: ReconnectState, moment: Moment): Step {
  if (state.phase !== "resuming" || state.signalling === "up") return stay(state);
  if (isDead(state)) return elsewhere(state, moment);
  return stay(state.signalling === "opening" ? { ...state, wakeAtMs: moment.nowMs + MEDIA_PATIENCE_MS } : state);
}

/** Media that flows keeps a PoP alive whatever its door says; media that is gone, or says nothing, does not. */
function isDead({ media, failures }: ReconnectState): boolean {
  return (media === "lost" && failures >= 1) || (media === "unknown" && failures >= 2);
}

/** Opens a socket to the same PoP; without media there is less time for it. */
function resume(state: ReconnectState, pop: PopId, { nowMs }: Moment): Step {
  const wakeAtMs = state.media === "up" ? undefined : nowMs + MEDIA_PATIENCE_MS;
  return stay({ ...state, phase: "resuming", signalling: "opening", wakeAtMs }, { type: "open", pop, attempt: "resume" });
}

function onSocketLost(state: ReconnectState, moment: Moment): Step {
  if (state.signalling !== "up" || state.pop === undefined) return stay(state);
  if (state.phase === "connecting" || state.phase === "restarting") return nextPop(state, moment);
  const sinceMs = state.phase === "resuming" ? state.sinceMs : moment.nowMs;
  return resume({ ...state, failures: 0, sinceMs }, state.pop, moment);
}

function onFailed(state: ReconnectState, failure: Failure, moment: Moment): Step {
  if (failure.kind === "fatal") return end(state, failure.reason);
  if (state.phase === "connecting" || state.phase === "restarting") return nextPop(state, moment);
  if (state.phase !== "resuming") return stay(state);
  if (failure.kind === "session_gone") return again(state, moment);
  if (failure.kind === "busy") return elsewhere(state, moment);

  const failed = { ...state, failures: state.failures + 1 };
  if (isDead(failed) || moment.nowMs - state.sinceMs >= RESUME_PATIENCE_MS) return elsewhere(failed, moment);
  return wait(failed, moment);
}

function onNetworkChanged(state: ReconnectState, moment: Moment): Step {
  if (state.phase === "connected") return stay(state, { type: "restartIce" });
  return state.signalling === "waiting" ? onTimer({ ...state, wakeAtMs: undefined }, moment) : stay(state);
}

function onTimer(state: ReconnectState, moment: Moment): Step {
  switch (state.phase) {
    case "resuming":
      if (state.media === "lost") return elsewhere(state, moment);
      if (state.signalling === "waiting" && state.pop !== undefined) return resume(state, state.pop, moment);
      return state.signalling === "opening" && state.media === "unknown" ? elsewhere(state, moment) : stay(state);
    case "connecting":
    case "restarting":
      if (state.signalling === "waiting") return nextPop({ ...state, tried: [] }, moment);
      // Signalling stands but no media came: another PoP may be reachable where this one is not.
      return state.signalling === "up" ? nextPop(state, moment) : stay(state);
    default:
      return stay(state);
  }
}

/** Whoever stands where another PoP is better now moves there; whoever does not has other worries first. */
function onRanked(state: ReconnectState, ranking: readonly PopId[], moment: Moment): Step {
  if (state.phase === "idle" || ranking.length === 0) return stay(state);
  const ranked = { ...state, ranking };
  const moves = state.phase === "connected" && ranking[0] !== state.pop;
  return moves ? begin(ranked, "restarting", [], moment) : stay(ranked);
}

/** The connection is of no use any more. One that stood is worth another; one that never did would only fail again. */
function onBroken(state: ReconnectState, moment: Moment): Step {
  const stood = state.phase === "connected" || state.phase === "resuming";
  return stood ? again(state, moment) : end(state, "fault");
}

function onSessionEnded(state: ReconnectState, reason: EndReason | "elsewhere" | "again", moment: Moment): Step {
  if (reason === "elsewhere") return elsewhere(state, moment);
  if (reason === "again") return again(state, moment);
  return end(state, reason);
}

/** A new stay, the PoP left behind tried last. */
function elsewhere(state: ReconnectState, moment: Moment): Step {
  if (state.phase === "connecting" || state.phase === "restarting") return nextPop(state, moment);
  return begin(state, "restarting", state.pop === undefined ? [] : [state.pop], moment);
}

/** A new stay, the same PoP first: it is alive but has forgotten this one. */
function again(state: ReconnectState, moment: Moment): Step {
  if (state.phase === "connecting" || state.phase === "restarting" || state.pop === undefined) {
    return nextPop(state, moment);
  }
  const held = state.media === "up";
  return open({ ...state, phase: "restarting", sinceMs: moment.nowMs, tried: [], failures: 0, held }, state.pop);
}

function begin(state: ReconnectState, phase: "connecting" | "restarting", tried: PopId[], moment: Moment): Step {
  const held = phase === "restarting" && state.media === "up";
  return nextPop({ ...state, phase, sinceMs: moment.nowMs, tried, failures: 0, held }, moment);
}

/** Opens the best PoP not yet tried in this round; after a whole round, waits and starts over, until it gives up. */
function nextPop(state: ReconnectState, moment: Moment): Step {
  const pop = state.ranking.find((candidate) => !state.tried.includes(candidate));
  if (pop !== undefined) return open(state, pop);
  if (moment.nowMs - state.sinceMs >= GIVE_UP_MS) {
    return end(state, state.signalling === "up" ? "media_blocked" : "unreachable");
  }
  return wait({ ...state, failures: state.failures + 1 }, moment);
}

function open(state: ReconnectState, pop: PopId): Step {
  const attempt = state.phase === "connecting" ? "join" : "restart";
  const opening = { ...state, pop, signalling: "opening", media: "unknown", wakeAtMs: undefined } as const;
  return stay({ ...opening, tried: [...state.tried, pop] }, { type: "open", pop, attempt });
}

function wait(state: ReconnectState, { nowMs, random }: Moment): Step {
  const last = RETRY_DELAYS_MS.length - 1;
  const delay = RETRY_DELAYS_MS[Math.min(state.failures, last)] ?? 0;
  return stay({ ...state, signalling: "waiting", wakeAtMs: nowMs + delay * (1 + random / 5) });
}
