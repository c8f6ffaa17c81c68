/**
 * Whether media still arrives, from the count of arrivals over time. Silence only means something while something is
 * expected: in an empty or muted room nothing need arrive.
 */
export interface StallState {
  arrivals: number;
  /** When the count last grew. */
  lastGrowthMs: number;
  verdict: "flowing" | "silent" | "unknown";
}

/** Silence that counts as a loss while the socket is well. */
export const STALL_MS = 1000;
/** The same while the socket is lost too, which is half the proof already. */
export const STALL_WITHOUT_SOCKET_MS = 500;

export interface Observation {
  nowMs: number;
  arrivals: number;
  expected: boolean;
  socketUp: boolean;
}

export function observe(state: StallState | undefined, seen: Observation): StallState {
  const { nowMs, arrivals, expected } = seen;
  if (state === undefined || arrivals !== state.arrivals) {
    return { arrivals, lastGrowthMs: nowMs, verdict: arrivals > 0 ? "flowing" : "unknown" };
  }
  const limit = seen.socketUp ? STALL_MS : STALL_WITHOUT_SOCKET_MS;
  if (state.verdict === "silent" || nowMs - state.lastGrowthMs < limit) return state;
  return { ...state, verdict: expected ? "silent" : "unknown" };
}
