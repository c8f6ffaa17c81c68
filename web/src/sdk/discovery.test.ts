import { describe, expect, test } from "vitest";

import { discover, rank, type ProbedPop } from "./discovery";
import type { PopEntry } from "./protocol.gen";
import { popEntry } from "./testing/pop-entry";
import { World } from "./testing/world";

function pop(id: string, { measuredMs, ...changes }: Partial<ProbedPop> = {}): ProbedPop {
  return { ...popEntry(id, { rtt_ms: 50, rtt_source: "geography", ...changes }), measuredMs };
}

/** A world in which each door answers after its round trip; those not named are dead. */
function worldOf(pops: PopEntry[], roundTrips: Record<string, number>, asked: string[] = []): World {
  const world = new World();
  world.onFetch = async (url, init) => {
    asked.push(`${init?.method ?? "GET"} ${url}`);
    const id = new URL(url).hostname.split(".")[0] ?? "";
    const delay = roundTrips[id];
    if (delay === undefined) throw new TypeError("connection refused");
    await new Promise<void>((resolve) => world.after(delay, resolve));
    if (url.includes("/v1/pops")) return Response.json({ pops, max_age_s: 60 });
    return new Response(null, { status: 204 });
  };
  return world;
}

async function found(world: World, ...[options]: Parameters<typeof discover> extends [unknown, ...infer Rest] ? Rest : never) {
  const discovery = discover(world, options);
  discovery.catch(() => undefined);
  await world.pass(30_000);
  return await discovery;
}

const THREE = [pop("panama"), pop("singapore"), pop("zurich")];

describe("discovery", () => {
  test("chooses the PoP that answers fastest, whatever the door believes", async () => {
    const world = worldOf(THREE, { panama: 140, singapore: 170, zurich: 12 });
    const { pops } = await found(world, { origin: "https://panama.example.org" });
    expect(pops[0]?.id).toBe("zurich");
    expect(pops[0]?.measuredMs).toBe(12);
  });

  test("does not wait for the slow once the fastest is known", async () => {
    const world = worldOf(THREE, { panama: 10, singapore: 3000, zurich: 20 });
    const before = world.now();
    let doneMs = Number.NaN;
    const done = discover(world, { origin: "https://panama.example.org" }).then(() => (doneMs = world.now()));
    await world.pass(10_000);
    await done;
    expect(doneMs - before).toBeLessThan(150);
  });

  test("keeps going when a PoP is dead", async () => {
    const world = worldOf(THREE, { singapore: 30, zurich: 20 });
    const { pops } = await found(world, { origin: "https://zurich.example.org" });
    expect(pops.map(({ id }) => id)).toEqual(["zurich", "singapore", "panama"]);
  });

  test("asks doors known from earlier when the page's own is dead", async () => {
    const world = worldOf(THREE, { singapore: 30 });
    const known = ["https://panama.example.org", "https://singapore.example.org"];
    const { pops } = await found(world, { origin: "https://zurich.example.org", known });
    expect(pops[0]?.id).toBe("singapore");
  });

  test("fails only when nobody answers", async () => {
    const world = worldOf(THREE, {});
    await expect(found(world, { origin: "https://zurich.example.org" })).rejects.toThrow("connection refused");
  });

  test("reports what it measured, and asks as if from the place it is told", async () => {
    const asked: string[] = [];
    const world = worldOf(THREE, { panama: 5, singapore: 6, zurich: 7 }, asked);
    await found(world, { origin: "https://panama.example.org", asIf: "bogota" });
    expect(asked[0]).toBe("GET https://panama.example.org/v1/pops?as-if=bogota");
    expect(asked.filter((line) => line.endsWith("/v1/ping?as-if=bogota"))).toHaveLength(9);
    expect(asked.at(-1)).toBe("POST https://panama.example.org/v1/measurements?as-if=bogota");
  });

  test("tells the door, and nobody else, which PoP is in use", async () => {
    const asked: string[] = [];
    const world = worldOf(THREE, { panama: 5, singapore: 6, zurich: 7 }, asked);
    await found(world, { origin: "https://panama.example.org", current: "a&b", asIf: "bogota" });
    expect(asked[0]).toBe("GET https://panama.example.org/v1/pops?as-if=bogota&current=a%26b");
    expect(asked.filter((line) => line.includes("current="))).toHaveLength(1);
  });

  test("reports round trips, not what opening the connection takes, and nothing of whom it knows only that of", async () => {
    const roundTripMs: Record<string, number> = { panama: 10, zurich: 30, singapore: 60 };
    const seen = new Set<string>();
    let body: unknown;
    const world = new World();
    world.onFetch = async (url, init) => {
      if (url.includes("/v1/measurements")) body = JSON.parse(String(init?.body));
      const id = new URL(url).hostname.split(".")[0] ?? "";
      const opens = url.includes("/v1/ping") && !seen.has(id);
      if (opens) seen.add(id);
      const delayMs = (roundTripMs[id] ?? 0) * (opens ? 3 : 1);
      await new Promise<void>((resolve) => world.after(delayMs, resolve));
      return url.includes("/v1/pops") ? Response.json({ pops: THREE, max_age_s: 60 }) : new Response(null, { status: 204 });
    };
    await found(world, { origin: "https://panama.example.org" });
    // The fastest is done after 50 ms and the others have as long again: singapore's first answer takes 180.
    expect(body).toEqual({ measurements: [{ pop: "panama", rtt_ms: 10 }] });
  });
});

/** Which of two comes first for someone who is at one of them. */
function firstOf(otherMs: number, presentMs: number): string | undefined {
  return rank([pop("other", { measuredMs: otherMs }), pop("present", { measuredMs: presentMs })], "present")[0]?.id;
}

test("the present PoP is measured too, however far down the list it stands", async () => {
  const five = ["a", "b", "c", "d", "e"].map((id) => pop(id));
  const world = worldOf(five, { a: 20, b: 30, c: 30, d: 30, e: 21 });
  const { pops } = await found(world, { origin: "https://a.example.org", current: "e" });
  expect(pops[0]?.id).toBe("e");
});

describe("ranking", () => {
  test("keeps the present PoP unless another is better by 10 ms and by 15 % of what the present one costs", () => {
    expect(firstOf(31, 40)).toBe("present");
    expect(firstOf(30, 40)).toBe("other");
    expect(firstOf(171, 200)).toBe("present");
    expect(firstOf(170, 200)).toBe("other");
  });

  test("does not leave the present PoP for an estimate while nothing was measured", () => {
    const pops = [pop("a", { rtt_ms: 20 }), pop("b", { rtt_ms: 90 })];
    expect(rank(pops, "b")[0]?.id).toBe("b");
  });

  test("counts load: a nearly full PoP that is a little nearer loses to an idle one", () => {
    const pops = [pop("full", { measuredMs: 20, load: 0.85, load_cost_ms: 69 }), pop("idle", { measuredMs: 23 })];
    expect(rank(pops).map(({ id }) => id)).toEqual(["idle", "full"]);
    expect(rank(pops, "full")[0]?.id).toBe("idle");
    const guessed = [pop("full", { rtt_ms: 20, load: 0.85, load_cost_ms: 69 }), pop("idle", { rtt_ms: 23 })];
    expect(rank(guessed).map(({ id }) => id)).toEqual(["idle", "full"]);
  });

  test("puts draining and full PoPs last, and leaves out those that are down", () => {
    const pops = [
      pop("draining", { measuredMs: 1, state: "draining" }),
      pop("full", { measuredMs: 2, load: 1 }),
      pop("down", { measuredMs: 3, state: "down" }),
      pop("far", { measuredMs: 300 }),
    ];
    expect(rank(pops).map(({ id }) => id)).toEqual(["far", "draining", "full"]);
  });

  test("keeps the door's order where nothing was measured", () => {
    const pops = [pop("a", { rtt_ms: 80 }), pop("b", { rtt_ms: 20 }), pop("c", { measuredMs: 200 })];
    expect(rank(pops).map(({ id }) => id)).toEqual(["c", "b", "a"]);
  });

  test("does not stay on a PoP that drains", () => {
    const pops = [pop("a", { measuredMs: 90 }), pop("b", { measuredMs: 10, state: "draining" })];
    expect(rank(pops, "b")[0]?.id).toBe("a");
  });
});
