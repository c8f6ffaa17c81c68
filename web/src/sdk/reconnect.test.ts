import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  advance,
  GIVE_UP_MS,
  IDLE,
  MEDIA_PATIENCE_MS,
  RESUME_PATIENCE_MS,
  RETRY_DELAYS_MS,
  type Command,
  type ReconnectEvent,
  type ReconnectState,
} from "./reconnect";

/** Feeds events one after the other, each at its time, and keeps what was commanded. */
class Run {
  state: ReconnectState = IDLE;
  nowMs = 0;
  commands: Command[] = [];

  at(nowMs: number, ...events: ReconnectEvent[]): this {
    this.nowMs = nowMs;
    this.commands = [];
    for (const event of events) {
      const step = advance(this.state, event, { nowMs, random: 0 });
      this.state = step.state;
      this.commands.push(...step.commands);
    }
    return this;
  }

  /** Sends the timer event when it is due. */
  wake(): this {
    return this.at(this.state.wakeAtMs ?? Number.NaN, { type: "timer" });
  }
}

const UNREACHABLE: ReconnectEvent = { type: "failed", failure: { kind: "unreachable" } };
const ranked = (...ranking: string[]): ReconnectEvent => ({ type: "ranked", ranking });
const open = (pop: string, attempt: "join" | "resume" | "restart"): Command => ({ type: "open", pop, attempt });

function connected(): Run {
  return new Run().at(0, { type: "join", ranking: ["zurich", "panama", "singapore"] }, { type: "welcomed" }, { type: "mediaUp" });
}

describe("joining", () => {
  test("goes to the best PoP, and to the next at once when that is out of reach", () => {
    const run = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] });
    expect(run.commands).toEqual([open("zurich", "join")]);
    expect(run.at(5, UNREACHABLE).commands).toEqual([open("panama", "join")]);
  });

  test("is connected only once media is up, not when signalling is", () => {
    const run = new Run().at(0, { type: "join", ranking: ["zurich"] }, { type: "welcomed" });
    expect(run.state.phase).toBe("connecting");
    expect(run.at(200, { type: "mediaUp" }).state.phase).toBe("connected");
  });

  test("gives up on every PoP in the end, and says that the network blocks media if only that failed", () => {
    const run = new Run().at(0, { type: "join", ranking: ["zurich"] });
    while (run.state.phase !== "ended" && run.nowMs < GIVE_UP_MS * 2) {
      run.at(run.nowMs + 10, run.state.signalling === "opening" ? UNREACHABLE : { type: "leave" });
      if (run.state.wakeAtMs !== undefined) run.wake();
    }
    expect(run.state.reason).toBe("unreachable");
    expect(run.nowMs).toBeGreaterThanOrEqual(GIVE_UP_MS);
  });

  test("a refusal that would be the same everywhere ends it", () => {
    const run = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] });
    run.at(5, { type: "failed", failure: { kind: "fatal", reason: "expired" } });
    expect(run.state).toMatchObject({ phase: "ended", reason: "expired" });
  });
});

describe("a lost socket", () => {
  test("is taken up on the same PoP at once, then after the listed delays, while media flows", () => {
    const run = connected().at(1000, { type: "socketLost" });
    expect(run.commands).toEqual([open("zurich", "resume")]);
    const delays: number[] = [];
    for (let attempt = 1; attempt < RETRY_DELAYS_MS.length; attempt += 1) {
      const failedMs = run.nowMs;
      run.at(failedMs, UNREACHABLE).wake();
      delays.push(run.nowMs - failedMs);
      expect(run.commands).toEqual([open("zurich", "resume")]);
    }
    expect(delays).toEqual(RETRY_DELAYS_MS.slice(1));
    expect(run.at(run.nowMs, { type: "welcomed" }).state.phase).toBe("connected");
  });

  test("with the door refusing and the media gone: the PoP is dead, and the next one is tried at once", () => {
    const run = connected().at(1000, { type: "socketLost" }).at(1003, UNREACHABLE).at(1600, { type: "mediaLost" });
    expect(run.commands).toEqual([open("panama", "restart")]);
    expect(run.state).toMatchObject({ phase: "restarting", pop: "panama", held: false });
  });

  test("with nothing flowing that could tell: two refusals are enough", () => {
    const run = connected().at(1000, { type: "mediaUnknown" }, { type: "socketLost" }).at(1003, UNREACHABLE);
    expect(run.state.phase).toBe("resuming");
    expect(run.wake().at(run.nowMs + 3, UNREACHABLE).commands).toEqual([open("panama", "restart")]);
  });

  test("whose media falls into doubt after two refusals: the next PoP at once, not after the next attempt", () => {
    const run = connected().at(1000, { type: "socketLost" }).at(1003, UNREACHABLE).wake().at(1310, UNREACHABLE);
    expect(run.at(1600, { type: "mediaUnknown" }).commands).toEqual([open("panama", "restart")]);
  });

  test("answered by a door that then says nothing has little time while the media is in doubt", () => {
    const run = connected().at(1000, { type: "mediaUnknown" }, { type: "socketLost" });
    expect(run.wake().commands).toEqual([open("panama", "restart")]);
    expect(run.nowMs).toBe(1000 + MEDIA_PATIENCE_MS);
  });

  test("that stays lost is given up before the node forgets the stay, although media flows", () => {
    const run = connected().at(0, { type: "socketLost" });
    while (run.state.phase === "resuming") {
      run.at(run.nowMs + 1, UNREACHABLE);
      if (run.state.phase === "resuming") run.wake();
    }
    expect(run.nowMs).toBeLessThan(RESUME_PATIENCE_MS + 6000);
    expect(run.state).toMatchObject({ phase: "restarting", pop: "panama", held: true });
  });

  test("on a PoP that has forgotten the stay: a new stay there first", () => {
    const run = connected().at(10, { type: "socketLost" }).at(20, { type: "failed", failure: { kind: "session_gone" } });
    expect(run.commands).toEqual([open("zurich", "restart")]);
  });

  test("is tried again at once when the network comes back", () => {
    const run = connected().at(10, { type: "socketLost" }).at(20, UNREACHABLE).at(30, { type: "networkChanged" });
    expect(run.commands).toEqual([open("zurich", "resume")]);
  });
});

describe("lost media", () => {
  test("restarts ICE first and another PoP after that", () => {
    const run = connected().at(5000, { type: "mediaLost" });
    expect(run.commands).toEqual([{ type: "restartIce" }]);
    expect(run.state.phase).toBe("resuming");
    expect(run.wake().commands).toEqual([open("panama", "restart")]);
    expect(run.nowMs).toBe(5000 + MEDIA_PATIENCE_MS);
  });

  test("that comes back changes nothing else", () => {
    const run = connected().at(5000, { type: "mediaLost" }).at(5300, { type: "mediaUp" });
    expect(run.state).toMatchObject({ phase: "connected", pop: "zurich", wakeAtMs: undefined });
  });

  test("while the door is a black hole too does not wait for the attempt to time out", () => {
    const run = connected().at(5000, { type: "socketLost" }, { type: "mediaLost" });
    expect(run.wake().commands).toEqual([open("panama", "restart")]);
  });
});

describe("a PoP that asks to move", () => {
  test("is left while its media still flows", () => {
    const run = connected().at(9, { type: "move" });
    expect(run.commands).toEqual([open("panama", "restart")]);
    expect(run.state.held).toBe(true);
  });
});

describe("a new ranking", () => {
  test("moves whoever stands to a PoP that is better now, while what flows goes on", () => {
    const run = connected().at(9, ranked("panama", "zurich"));
    expect(run.commands).toEqual([open("panama", "restart")]);
    expect(run.state).toMatchObject({ phase: "restarting", held: true });
    expect(run.at(30, UNREACHABLE).commands).toEqual([open("zurich", "restart")]);
  });

  test("with the present PoP first changes only where to go when that is lost", () => {
    const run = connected().at(9, ranked("zurich", "singapore", "panama"));
    expect(run.commands).toEqual([]);
    expect(run.state.phase).toBe("connected");
    expect(run.at(20, { type: "move" }).commands).toEqual([open("singapore", "restart")]);
  });

  test("does not disturb an attempt under way, and counts for the next", () => {
    const resuming = connected().at(9, { type: "mediaLost" }, ranked("singapore", "zurich"));
    expect(resuming.commands).toEqual([{ type: "restartIce" }]);
    expect(resuming.wake().commands).toEqual([open("singapore", "restart")]);
    const joining = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] }).at(5, ranked("panama", "singapore"));
    expect(joining.commands).toEqual([]);
    expect(joining.at(9, UNREACHABLE).commands).toEqual([open("panama", "join")]);
  });

  test("is of no use before joining and after the end, nor if it is empty", () => {
    expect(new Run().at(0, ranked("panama")).state).toEqual(IDLE);
    const left = connected().at(5, { type: "leave" }).state;
    expect(advance(left, ranked("panama"), { nowMs: 9, random: 0 }).state).toBe(left);
    expect(connected().at(9, ranked()).state.ranking).toEqual(["zurich", "panama", "singapore"]);
  });
});

describe("a connection that is of no use any more", () => {
  const BROKEN: ReconnectEvent = { type: "broken" };

  test("is replaced by a new stay on the same PoP, while what flows goes on", () => {
    const run = connected().at(9, BROKEN);
    expect(run.commands).toEqual([open("zurich", "restart")]);
    expect(run.state).toMatchObject({ phase: "restarting", held: true });
    const resuming = connected().at(9, { type: "mediaLost" }).at(20, BROKEN);
    expect(resuming.commands).toEqual([open("zurich", "restart")]);
  });

  test("ends the call if it never stood, be it the first or the one in place of another", () => {
    const joining = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] }, { type: "welcomed" }, BROKEN);
    expect(joining.state).toMatchObject({ phase: "ended", reason: "fault" });
    const replacing = connected().at(9, BROKEN).at(40, { type: "welcomed" }, BROKEN);
    expect(replacing.state).toMatchObject({ phase: "ended", reason: "fault" });
  });
});

const events: fc.Arbitrary<ReconnectEvent> = fc.oneof(
  fc.constantFrom<ReconnectEvent>(
    { type: "welcomed" },
    { type: "socketLost" },
    { type: "mediaUp" },
    { type: "mediaLost" },
    { type: "mediaUnknown" },
    { type: "networkChanged" },
    { type: "timer" },
    { type: "move" },
    { type: "broken" },
    { type: "ranked", ranking: ["panama", "zurich"] },
    { type: "ranked", ranking: [] },
    UNREACHABLE,
    { type: "failed", failure: { kind: "busy" } },
    { type: "failed", failure: { kind: "session_gone" } },
    { type: "sessionEnded", reason: "elsewhere" },
    { type: "sessionEnded", reason: "again" },
  ),
);

describe("in any order of events", () => {
  test("there is always a next step: connected, an attempt under way, or a time to wake", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(events, fc.nat(8000)), { maxLength: 60 }), (script) => {
        const run = new Run().at(0, { type: "join", ranking: ["zurich", "panama", "singapore"] });
        for (const [event, delay] of script) {
          run.at(run.nowMs + delay, event);
          const { phase, signalling, wakeAtMs } = run.state;
          const settled = phase === "connected" || phase === "ended";
          expect(settled || signalling === "opening" || wakeAtMs !== undefined, JSON.stringify(run.state)).toBe(true);
        }
      }),
    );
  });

  test("at most one attempt is opened per event, always on a known PoP, and none after the end", () => {
    fc.assert(
      fc.property(fc.array(events, { maxLength: 60 }), fc.nat(60), (script, leaveAfter) => {
        const run = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] });
        script.forEach((event, index) => {
          const ended = run.state.phase === "ended";
          run.at(run.nowMs + 100, index === leaveAfter ? { type: "leave" } : event);
          const opened = run.commands.filter((command) => command.type === "open");
          expect(opened.length).toBeLessThanOrEqual(ended ? 0 : 1);
          for (const command of opened) expect(["zurich", "panama"]).toContain(command.pop);
        });
      }),
    );
  });

  test("connected means that signalling stands", () => {
    fc.assert(
      fc.property(fc.array(events, { maxLength: 60 }), (script) => {
        const run = new Run().at(0, { type: "join", ranking: ["zurich", "panama"] });
        for (const event of script) {
          run.at(run.nowMs + 100, event);
          if (run.state.phase === "connected") expect(run.state.signalling).toBe("up");
        }
      }),
    );
  });
});
