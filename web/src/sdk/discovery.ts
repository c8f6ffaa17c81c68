import { askDoor, callDoor, jsonPost } from "./doors";
import type { Environment } from "./environment";
import {
  FULL_LOAD,
  STAY_WITHIN_MS,
  STAY_WITHIN_SHARE,
  type Measurement,
  type PopEntry,
  type PopId,
  type PopList,
} from "./protocol.gen";

/** The most PoPs probed at a time: the first of the door's ranking. */
export const MAX_PROBED = 4;
/** Probes per PoP. The first also opens the connection, so it is seldom the fastest. */
const PROBES = 3;
/** How long the slower PoPs may go on once the first has answered all its probes, at least. */
const MIN_GRACE_MS = 40;
/** What an unmeasured PoP costs beside its estimate, in milliseconds: more than any that answered. */
const UNMEASURED_MS = 1e6;

export interface DiscoveryOptions {
  /** The door that served the page, asked first. */
  origin: string;
  /** Doors known from earlier, asked when the first does not answer. */
  known?: readonly string[];
  /** The PoP in use, which is kept unless another is clearly better. */
  current?: PopId;
  /** Development doors answer as if the caller were there. */
  asIf?: string;
}

export interface ProbedPop extends PopEntry {
  /** The fastest probe, in milliseconds; undefined if it was not probed or did not answer. */
  measuredMs?: number;
}

export interface Discovery {
  /** Every PoP that can be tried, best first. */
  pops: ProbedPop[];
  /** The place a development door emulates. */
  asIf?: string;
}

/** Finds the nearest PoP: asks any door for the list, probes the best few in parallel, reports what was measured. */
export async function discover(environment: Environment, options: DiscoveryOptions): Promise<Discovery> {
  const { current, asIf } = options;
  const query = queryOf({ "as-if": asIf });
  const { door, list } = await firstAnswer(environment, options, queryOf({ "as-if": asIf, current }));
  const ready = list.pops.filter((pop) => pop.state === "ready");
  // The one in use is measured in any case: it is what the others are compared with.
  const candidates = ready.filter((pop, place) => place < MAX_PROBED || pop.id === current);
  const measured = await probeAll(environment, candidates, query);
  void report(environment, door, query, measured);
  const probed = list.pops.map((pop): ProbedPop => ({ ...pop, measuredMs: measured.get(pop.id)?.fastestMs }));
  return { pops: rank(probed, current), asIf: list.as_if };
}

/**
 * Best first: measured before unmeasured, and of those the cheaper by round trip and load. PoPs that drain or are full
 * come last, as a last resort; those that are down are left out, unless all are. `current` stays first unless another
 * is clearly better, by the same rule as in the directory.
 */
export function rank(pops: readonly ProbedPop[], current?: PopId): ProbedPop[] {
  const standing = pops.filter((pop) => pop.state !== "down");
  const ranked = (standing.length > 0 ? standing : pops).toSorted((a, b) => cost(a) - cost(b));
  const best = ranked[0];
  const present = ranked.find((pop) => pop.id === current);
  if (best !== undefined && present !== undefined && present !== best && !clearlyBetter(best, present)) {
    return [present, ...ranked.filter((pop) => pop !== present)];
  }
  return ranked;
}

function takesCalls(pop: PopEntry): boolean {
  return pop.state === "ready" && pop.load < FULL_LOAD;
}

/** What choosing a PoP costs, in milliseconds. */
function cost(pop: ProbedPop): number {
  if (!takesCalls(pop)) return Number.MAX_VALUE;
  return (pop.measuredMs ?? UNMEASURED_MS + pop.rtt_ms) + pop.load_cost_ms;
}

function clearlyBetter(best: ProbedPop, present: ProbedPop): boolean {
  const gainMs = cost(present) - cost(best);
  return gainMs >= STAY_WITHIN_MS && gainMs >= cost(present) * STAY_WITHIN_SHARE;
}

/** The parameters that have a value as a query, empty if none has. */
function queryOf(parameters: Record<string, string | undefined>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) given.set(name, value);
  return given.size === 0 ? "" : `?${given}`;
}

/** The list of the page's own door or, if that is dead, of whichever known door answers first. */
async function firstAnswer(
  environment: Environment,
  options: DiscoveryOptions,
  query: string,
): Promise<{ door: string; list: PopList }> {
  const ask = async (door: string) => ({ door, list: await askDoor<PopList>(environment, `${door}/v1/pops${query}`) });
  try {
    return await ask(options.origin);
  } catch (error) {
    const others = (options.known ?? []).filter((door) => door !== options.origin);
    if (others.length === 0) throw error;
    return await Promise.any(others.map(ask));
  }
}

/** What the answered probes of one PoP took. */
interface Probes {
  fastestMs: number;
  /** The fastest on a connection that stood already: a round trip, where the first probe also pays for the connection. */
  warmMs: number | undefined;
}

/** Probes in parallel; ends soon after the fastest is done, since whoever is slower by then is not the nearest. */
async function probeAll(
  environment: Environment,
  pops: readonly PopEntry[],
  query: string,
): Promise<Map<PopId, Probes>> {
  const measured = new Map<PopId, Probes>();
  const runs = pops.map(async (pop) => {
    let fastestMs = Infinity;
    let warmMs: number | undefined;
    for (let probe = 0; probe < PROBES; probe += 1) {
      const started = environment.now();
      await callDoor(environment, `${pop.url}/v1/ping${query}`, { cache: "no-store" });
      const elapsed = environment.now() - started;
      fastestMs = Math.min(fastestMs, elapsed);
      if (probe > 0) warmMs = Math.min(warmMs ?? Infinity, elapsed);
      measured.set(pop.id, { fastestMs, warmMs });
    }
    return fastestMs;
  });
  const all = Promise.allSettled(runs);
  const first = await Promise.any(runs).catch(() => undefined);
  if (first === undefined) return measured;
  const grace = new Promise<void>((resolve) => environment.after(Math.max(MIN_GRACE_MS, first), resolve));
  await Promise.race([all, grace]);
  return new Map(measured);
}

/** Tells the directory what was measured. It is a favour to later callers: nothing depends on its success. */
async function report(
  environment: Environment,
  door: string,
  query: string,
  measured: ReadonlyMap<PopId, Probes>,
): Promise<void> {
  const measurements = [...measured].flatMap(([pop, { warmMs }]): Measurement[] =>
    warmMs === undefined ? [] : [{ pop, rtt_ms: Math.max(warmMs, 0.1) }],
  );
  if (measurements.length === 0) return;
  await callDoor(environment, `${door}/v1/measurements${query}`, jsonPost({ measurements })).catch(() => undefined);
}
