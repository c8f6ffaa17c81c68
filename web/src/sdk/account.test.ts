import { describe, expect, test } from "vitest";

import { Account, type AccountState } from "./account";
import { DoorRefusal } from "./doors";
import type { Code, SignedIn } from "./protocol.gen";
import { World } from "./testing/world";

const [ZURICH, PANAMA] = ["https://zurich.example.org", "https://panama.example.org"] as const;
const FORM = { email: "ana@example.org", password: "correct horse", device: "Firefox" };

/** Doors that do what the test says, and what they were asked. */
class Doors {
  readonly world = new World();
  readonly asked: string[] = [];
  readonly attempts: string[] = [];
  readonly kept = new Map<string, string>();
  answer: (door: string, path: string) => Response | undefined = () => undefined;

  constructor() {
    this.world.onFetch = async (url, init) => {
      const { origin, pathname } = new URL(url);
      this.asked.push(`${init?.method ?? "GET"} ${origin.slice(8).split(".")[0]} ${pathname}`);
      const body = JSON.parse((init?.body as string | undefined) ?? "{}") as { attempt?: string };
      if (body.attempt !== undefined) this.attempts.push(body.attempt);
      this.world.chance = (this.world.chance + 0.3) % 1;
      if (init?.credentials !== "include") throw new TypeError("the cookie was not sent");
      const answer = this.answer(origin, pathname);
      if (answer === undefined) throw new TypeError("connection refused");
      return answer;
    };
  }

  account(): Account {
    const store = {
      getItem: (key: string) => this.kept.get(key) ?? null,
      setItem: (key: string, value: string) => void this.kept.set(key, value),
      removeItem: (key: string) => void this.kept.delete(key),
    };
    return new Account(this.world, () => [ZURICH, PANAMA], store);
  }
}

function signedIn(access_token: string): Response {
  const answer: SignedIn = { person: "u-ana", device: "d-1", access_token, expires_in_s: 600 };
  return Response.json(answer);
}

function refusal(code: Code, status: number, at?: string): Response {
  return Response.json({ code, status, detail: "No.", at }, { status });
}

const IN: AccountState = { phase: "in", person: "u-ana", device: "d-1" };

describe("an account", () => {
  test("is opened where the first door says", async () => {
    const doors = new Doors();
    doors.answer = (door) => (door === PANAMA ? signedIn("one") : refusal("not_home", 409, PANAMA));
    const account = doors.account();
    await account.register({ ...FORM, name: "Ana", locale: "es", country: null, time_zone: null });
    expect(doors.asked).toEqual(["POST zurich /v1/accounts", "POST panama /v1/accounts"]);
    expect(account.state).toEqual(IN);
    expect(await account.token()).toBe("one");
  });

  test("is asked for at the next door if one is out of reach, and not if one says no", async () => {
    const doors = new Doors();
    doors.answer = (door) => (door === PANAMA ? refusal("wrong_credentials", 401) : undefined);
    const account = doors.account();
    const refused = await account.signIn(FORM).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(DoorRefusal);
    expect((refused as DoorRefusal).code).toBe("wrong_credentials");
    doors.answer = () => refusal("not_home", 409, ZURICH);
    await expect(account.signIn(FORM)).rejects.toBeInstanceOf(DoorRefusal);
    expect(doors.asked.length).toBe(4);
  });
});

describe("a device that was signed in", () => {
  test("goes on being, before its token expires", async () => {
    const doors = new Doors();
    let renewals = 0;
    doors.answer = () => signedIn(`token ${++renewals}`);
    const account = doors.account();
    await account.restore();
    expect(account.state).toEqual(IN);
    await doors.world.pass(470_000);
    expect(renewals).toBe(1);
    await doors.world.pass(20_000);
    expect(await account.token()).toBe("token 2");
    expect(new Set(doors.attempts).size).toBe(2);
    expect(doors.kept.size).toBe(0);
  });

  test("repeats an exchange whose answer was lost, also after the page was closed", async () => {
    const doors = new Doors();
    await doors.account().restore();
    expect(doors.kept.size).toBe(1);
    doors.answer = () => signedIn("two");
    const account = doors.account();
    await account.restore();
    expect(account.state).toEqual(IN);
    expect(new Set(doors.attempts).size).toBe(1);
  });

  test("is out when a door says so, and stays in while none can be reached", async () => {
    const doors = new Doors();
    doors.answer = () => signedIn("one");
    const account = doors.account();
    await account.restore();
    doors.answer = () => undefined;
    await doors.world.pass(700_000);
    expect(account.state).toEqual(IN);
    await expect(account.token()).resolves.toBe("one");
    doors.answer = () => refusal("session_over", 401);
    await doors.world.pass(10_000);
    expect(account.state).toEqual({ phase: "out", reason: "session_over" });
    await expect(account.token()).rejects.toThrow("Nobody is signed in.");
  });

  test("asks once for all who want a token", async () => {
    const doors = new Doors();
    doors.answer = () => signedIn("one");
    const account = doors.account();
    await Promise.all([account.restore(), account.token(), account.token()]);
    expect(doors.asked).toEqual(["POST zurich /v1/sessions/renew"]);
  });

  test("is signed out", async () => {
    const doors = new Doors();
    doors.answer = (_, path) => (path === "/v1/devices/d-1" ? new Response(null, { status: 204 }) : signedIn("one"));
    const account = doors.account();
    await account.restore();
    await account.signOut();
    expect(doors.asked.at(-1)).toBe("DELETE zurich /v1/devices/d-1");
    expect(account.state).toEqual({ phase: "out", reason: "signed_out" });
    await doors.world.pass(1_000_000);
    expect(doors.asked.length).toBe(2);
  });
});
