/**
 * Whether media still arrives, from the count of arrivals over time. Silence only means something while something is
 * expected: in an empty or muted room nothing need arrive.
 */
export interface StallState {
  arrivals: number;
  observedMs: number;
  /** For how long the count has not grown. */
  silentMs: number;
  verdict: "flowing" | "silent" | "unknown";
}

/** Silence that counts as a loss while the socket is well. */
export const STALL_MS = 1000;
/** The same while the socket is lost too, which is half the proof already. */
export const STALL_WITHOUT_SOCKET_MS = 500;
/** The most that one look adds: a page that was too busy to look for seconds was too busy to receive as well. */
const MAX_STEP_MS = 600;

export interface Observation {
  nowMs: number;
  arrivals: number;
  expected: boolean;
  socketUp: boolean;
}

export function observe(state: StallState | undefined, seen: Observation): StallState {
  const { nowMs, arrivals, expected } = seen;
  if (state === undefined || arrivals !== state.arrivals) {
    return { arrivals, observedMs: nowMs, silentMs: 0, verdict: arrivals > 0 ? "flowing" : "unknown" };
  }
  const silentMs = state.silentMs + Math.min(nowMs - state.observedMs, MAX_STEP_MS);
  const next = { ...state, observedMs: nowMs, silentMs };
  const limit = seen.socketUp ? STALL_MS : STALL_WITHOUT_SOCKET_MS;
  if (state.verdict === "silent" || silentMs < limit) return next;
  return { ...next, verdict: expected ? "silent" : "unknown" };
}
