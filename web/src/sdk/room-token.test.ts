import { describe, expect, test } from "vitest";

import { DoorRefusal } from "./doors";
import type { Code, PopEntry } from "./protocol.gen";
import { obtainGuestToken } from "./room-token";
import { World } from "./testing/world";

const POPS: PopEntry[] = ["zurich", "panama"].map((id) => ({
  id,
  region: id,
  url: `https://${id}.example.org`,
  rtt_ms: 10,
  rtt_source: "measured",
  load: 0,
  load_cost_ms: 0,
  state: "ready",
}));

function refusal(code: Code, status: number, headers: Record<string, string> = {}): Response {
  return Response.json({ code, status, detail: "No." }, { status, headers });
}

function limited(retryAfterS: number): Response {
  return refusal("rate_limited", 429, { "retry-after": String(retryAfterS) });
}

/** Doors that do what the test says, and what they were asked: when, where, and with which token. */
class Doors {
  readonly world = new World();
  readonly asked: string[] = [];
  /** What the door of each PoP answers; one without an answer is out of reach. */
  readonly answers: Record<string, () => Response> = {};

  constructor() {
    this.world.onFetch = async (url) => {
      const { hostname, pathname } = new URL(url);
      const pop = hostname.split(".")[0] ?? "";
      this.asked.push(`${this.world.now()} ${pop}${pathname.replace("/v1/rooms/demo/guests", "")}`);
      const answer = this.answers[pop];
      if (answer === undefined) throw new TypeError("connection refused");
      return answer();
    };
  }

  grant(pop: string): void {
    this.answers[pop] = () => Response.json({ room: "demo", token: `of ${pop}`, expires_in_s: 600 }, { status: 201 });
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
