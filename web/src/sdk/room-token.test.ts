import { describe, expect, test } from "vitest";

import { DoorRefusal } from "./doors";
import type { Code, GuestToken } from "./protocol.gen";
import { obtainGuestToken, RoomToken } from "./room-token";
import { popEntry } from "./testing/pop-entry";
import { World } from "./testing/world";

const POPS = [popEntry("zurich"), popEntry("panama")];

function refusal(code: Code, status: number, headers: Record<string, string> = {}): Response {
  return Response.json({ code, status, detail: "No." }, { status, headers });
}

function limited(retryAfterS: number): Response {
  return refusal("rate_limited", 429, { "retry-after": String(retryAfterS) });
}

function granted(token: string, expires_in_s = 600): GuestToken {
  return { room: "demo", token, expires_in_s };
}

/** Doors that do what the test says, and what they were asked: when, where, and by whom. */
class Doors {
  readonly world = new World();
  readonly asked: string[] = [];
  /** What the door of each PoP answers; one without an answer is out of reach. */
  readonly answers: Record<string, () => Response> = {};

  constructor() {
    this.world.onFetch = async (url, init) => {
      const { hostname, pathname } = new URL(url);
      const pop = hostname.split(".")[0] ?? "";
      const bearer = new Headers(init?.headers).get("authorization") ?? "";
      this.asked.push(`${this.world.now()} ${pop} ${bearer}`.trim());
      const understood = pathname === "/v1/rooms/demo/guests" && init?.body === '{"name":"Ana"}';
      const answer = understood ? this.answers[pop] : undefined;
      if (answer === undefined) throw new TypeError("connection refused");
      return answer();
    };
  }

  grant(pop: string): void {
    this.answers[pop] = () => Response.json(granted(`of ${pop}`), { status: 201 });
  }
}

/** What came of asking for a token, after enough time for anything. */
async function obtained(doors: Doors, signal?: AbortSignal): Promise<string | DoorRefusal> {
  const asking = obtainGuestToken(doors.world, POPS, { room: "demo", name: "Ana" }, signal);
  const outcome = asking.then(
    ({ token, pop }) => `${token.token}, at ${pop.id}`,
    (error: DoorRefusal) => error,
  );
  await doors.world.pass(60_000);
  return await outcome;
}

describe("a guest's token", () => {
  test("comes from the best PoP, or from the next when that is silent or broken", async () => {
    const doors = new Doors();
    doors.grant("zurich");
    doors.grant("panama");
    expect(await obtained(doors)).toBe("of zurich, at zurich");
    delete doors.answers.zurich;
    expect(await obtained(doors)).toBe("of panama, at panama");
    doors.answers.zurich = () => refusal("internal", 500);
    expect(await obtained(doors)).toBe("of panama, at panama");
  });

  test("is refused for good by the first door that says why", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => refusal("forbidden", 403);
    doors.grant("panama");
    expect(await obtained(doors)).toMatchObject({ code: "forbidden", status: 403 });
    expect(doors.asked).toEqual(["0 zurich"]);
  });

  test("comes from the next door at once when the best is asked too often", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => limited(7);
    doors.grant("panama");
    expect(await obtained(doors)).toBe("of panama, at panama");
    expect(doors.asked).toEqual(["0 zurich", "0 panama"]);
  });

  test("is waited for, until the first may be asked again, when all are asked too often", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => limited(7);
    doors.answers.panama = () => {
      doors.grant("zurich");
      return limited(3);
    };
    expect(await obtained(doors)).toBe("of zurich, at zurich");
    expect(doors.asked).toEqual(["0 zurich", "0 panama", "3000 zurich"]);
  });

  test("is waited for also where a silent door stands beside one that is asked too often", async () => {
    const doors = new Doors();
    doors.answers.panama = () => {
      doors.grant("panama");
      return limited(1);
    };
    expect(await obtained(doors)).toBe("of panama, at panama");
  });

  test("is given up when the wait would take more than 20 s in all", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => limited(9);
    expect(await obtained(doors)).toMatchObject({ code: "rate_limited", retryAfterMs: 9000 });
    expect(doors.asked.filter((line) => line.endsWith("zurich"))).toEqual(["0 zurich", "9000 zurich", "18000 zurich"]);
  });

  test("is waited for some seconds when the door does not say how long", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => {
      doors.grant("zurich");
      return refusal("rate_limited", 429, { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" });
    };
    expect(await obtained(doors)).toBe("of zurich, at zurich");
    expect(doors.asked.at(-1)).toBe("5000 zurich");
  });

  test("is not asked for any more by whoever has left", async () => {
    const doors = new Doors();
    const leaving = new AbortController();
    doors.answers.zurich = () => limited(3);
    doors.world.after(1000, () => leaving.abort());
    expect(await obtained(doors, leaving.signal)).toMatchObject({ name: "AbortError" });
    expect(doors.asked).toEqual(["0 zurich", "0 panama"]);
  });
});

/** The token of a call at the first of the PoPs; it lasts ten minutes. */
function held(doors: Doors, token: string | GuestToken = granted("first")): RoomToken {
  return new RoomToken(doors.world, token, { room: "demo", name: "Ana" }, () => POPS);
}

describe("a room token", () => {
  test("is renewed at half of its life, for the same person, as often as it takes", async () => {
    const doors = new Doors();
    let count = 0;
    doors.answers.zurich = () => Response.json(granted(`next ${(count += 1)}`, 400));
    const token = held(doors);
    await doors.world.pass(299_999);
    expect(token.value).toBe("first");
    await doors.world.pass(1);
    expect(token.value).toBe("next 1");
    await doors.world.pass(400_000);
    expect(token.value).toBe("next 3");
    expect(doors.asked).toEqual(["300000 zurich Bearer first", "500000 zurich Bearer next 1", "700000 zurich Bearer next 2"]);
  });

  test("is renewed elsewhere when the door in use is out of reach", async () => {
    const doors = new Doors();
    doors.grant("panama");
    const token = held(doors);
    await doors.world.pass(300_000);
    expect(token.value).toBe("of panama");
    expect(doors.asked).toEqual(["300000 zurich Bearer first", "300000 panama Bearer first"]);
  });

  test("is tried again half a minute later when no door can be reached", async () => {
    const doors = new Doors();
    const token = held(doors);
    await doors.world.pass(310_000);
    doors.grant("zurich");
    await doors.world.pass(19_999);
    expect(token.value).toBe("first");
    await doors.world.pass(1);
    expect(token.value).toBe("of zurich");
  });

  test("is tried again when the doors say, if they are asked too often", async () => {
    const doors = new Doors();
    doors.answers.zurich = () => limited(70);
    const token = held(doors);
    await doors.world.pass(310_000);
    doors.grant("zurich");
    await doors.world.pass(59_999);
    expect(token.value).toBe("first");
    await doors.world.pass(1);
    expect(token.value).toBe("of zurich");
  });

  const finals = [["forbidden", 403], ["token_expired", 401]] as const;
  test.each(finals)("refused another for good (%s) is used to its end", async (code, status) => {
    const doors = new Doors();
    doors.answers.zurich = () => refusal(code, status);
    doors.grant("panama");
    const token = held(doors);
    await doors.world.pass(3_600_000);
    expect(token.value).toBe("first");
    expect(doors.asked).toEqual(["300000 zurich Bearer first"]);
  });

  test("from elsewhere is used as it is", async () => {
    const doors = new Doors();
    const token = held(doors, "theirs");
    await doors.world.pass(100 * 24 * 3_600_000);
    expect(token.value).toBe("theirs");
    expect(doors.asked).toEqual([]);
  });

  test("that lasts for months is renewed each day: no browser's timer is that long", async () => {
    const doors = new Doors();
    doors.grant("zurich");
    held(doors, granted("first", 100 * 24 * 3600));
    await doors.world.pass(24 * 3_600_000);
    expect(doors.asked).toEqual(["86400000 zurich Bearer first"]);
  });

  test("is not renewed after the call, nor by an answer that comes too late", async () => {
    const doors = new Doors();
    doors.grant("zurich");
    const waiting = held(doors);
    waiting.stop();
    const asking = held(doors);
    doors.answers.zurich = () => {
      asking.stop();
      return Response.json(granted("late"));
    };
    await doors.world.pass(3_600_000);
    expect(doors.asked).toEqual(["300000 zurich Bearer first"]);
  });
});
