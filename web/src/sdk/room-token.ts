import { DoorRefusal, requestGuestToken, type Guest } from "./doors";
import type { Environment } from "./environment";
import type { GuestToken, PopEntry } from "./protocol.gen";

/** How long doors that are asked too often are waited for before giving up, in milliseconds. */
const LIMITED_PATIENCE_MS = 20_000;
/** How long to leave such a door alone if it does not say, in milliseconds. */
const LIMITED_MS = 5000;

/** What a door gave to a guest. */
export interface Grant {
  token: GuestToken;
  /** Whose door gave it. */
  pop: PopEntry;
}

/**
 * A token for a guest from the best PoP that gives one. Doors that are asked too often are passed over and, if there is
 * no other, waited for; what the last one said is thrown when that takes too long. Stops asking once `signal` is aborted.
 */
export async function obtainGuestToken(
  environment: Environment,
  pops: readonly PopEntry[],
  guest: Guest,
  signal?: AbortSignal,
): Promise<Grant> {
  const giveUpMs = environment.now() + LIMITED_PATIENCE_MS;
  for (;;) {
    try {
      return await firstGrant(environment, pops, guest, signal);
    } catch (error) {
      if (!isLimited(error) || environment.now() + waitOf(error) > giveUpMs) throw error;
      await new Promise<void>((resolve) => environment.after(waitOf(error), resolve));
    }
  }
}

/** One round of the doors. A refusal is final; silence is not, nor is a door that is asked too often. */
async function firstGrant(
  environment: Environment,
  pops: readonly PopEntry[],
  guest: Guest,
  signal?: AbortSignal,
): Promise<Grant> {
  const limited: DoorRefusal[] = [];
  for (const pop of pops) {
    signal?.throwIfAborted();
    try {
      return { token: await requestGuestToken(environment, pop.url, guest), pop };
    } catch (error) {
      if (isLimited(error)) limited.push(error);
      else if (isFinal(error)) throw error;
    }
  }
  const [soonest] = limited.toSorted((a, b) => waitOf(a) - waitOf(b));
  throw soonest ?? new Error("No door gave a token.");
}

function isLimited(error: unknown): error is DoorRefusal {
  return error instanceof DoorRefusal && error.code === "rate_limited";
}

function isFinal(error: unknown): boolean {
  return error instanceof DoorRefusal && error.status < 500 && !isLimited(error);
}

function waitOf(limited: DoorRefusal): number {
  return limited.retryAfterMs ?? LIMITED_MS;
}
