import { describe, expect, test } from "vitest";

import { observe, STALL_MS, STALL_WITHOUT_SOCKET_MS, type StallState } from "./stall";

/** The verdict after so long a silence, looked at every so often. */
function after(silenceMs: number, expected: boolean, socketUp: boolean, everyMs = 100): StallState["verdict"] {
  let state = observe(undefined, { nowMs: 0, arrivals: 10, expected, socketUp });
  for (let nowMs = everyMs; nowMs <= silenceMs; nowMs += everyMs) {
    state = observe(state, { nowMs, arrivals: 10, expected, socketUp });
  }
  return state.verdict;
}

describe("silence", () => {
  test("is a loss after a second, or half of one without the socket", () => {
    expect(after(STALL_MS - 100, true, true)).toBe("flowing");
    expect(after(STALL_MS, true, true)).toBe("silent");
    expect(after(STALL_WITHOUT_SOCKET_MS - 100, true, false)).toBe("flowing");
    expect(after(STALL_WITHOUT_SOCKET_MS, true, false)).toBe("silent");
  });

  test("says nothing where nothing is expected", () => {
    expect(after(60_000, false, true)).toBe("unknown");
  });

  test("is not believed of a page that was too busy to look", () => {
    expect(after(3000, true, true, 3000)).toBe("flowing");
    expect(after(6000, true, true, 3000)).toBe("silent");
  });

  test("ends with the next arrival", () => {
    const silent: StallState = { arrivals: 5, observedMs: 0, silentMs: 2000, verdict: "silent" };
    const next = observe(silent, { nowMs: 5000, arrivals: 6, expected: true, socketUp: true });
    expect(next).toMatchObject({ verdict: "flowing", silentMs: 0 });
  });
});
