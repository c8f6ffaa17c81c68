import { describe, expect, test } from "vitest";

import { observe, STALL_MS, STALL_WITHOUT_SOCKET_MS, type StallState } from "./stall";

function after(silenceMs: number, expected: boolean, socketUp: boolean): StallState["verdict"] {
  let state = observe(undefined, { nowMs: 0, arrivals: 10, expected, socketUp });
  state = observe(state, { nowMs: 100, arrivals: 20, expected, socketUp });
  return observe(state, { nowMs: 100 + silenceMs, arrivals: 20, expected, socketUp }).verdict;
}

describe("silence", () => {
  test("is a loss after a second, or half of one without the socket", () => {
    expect(after(STALL_MS - 1, true, true)).toBe("flowing");
    expect(after(STALL_MS, true, true)).toBe("silent");
    expect(after(STALL_WITHOUT_SOCKET_MS - 1, true, false)).toBe("flowing");
    expect(after(STALL_WITHOUT_SOCKET_MS, true, false)).toBe("silent");
  });

  test("says nothing where nothing is expected", () => {
    expect(after(60_000, false, true)).toBe("unknown");
  });

  test("ends with the next arrival", () => {
    const silent: StallState = { arrivals: 5, lastGrowthMs: 0, verdict: "silent" };
    const next = observe(silent, { nowMs: 5000, arrivals: 6, expected: true, socketUp: true });
    expect(next.verdict).toBe("flowing");
  });
});
