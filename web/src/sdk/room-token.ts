import { DoorRefusal, requestGuestToken, type Guest } from "./doors";
import type { Cancel, Environment } from "./environment";
import type { GuestToken, PopEntry } from "./protocol.gen";

/** How long doors that are asked too often are waited for before giving up, in milliseconds. */
const LIMITED_PATIENCE_MS = 20_000;
/** How long to leave such a door alone if it does not say, in milliseconds. */
const LIMITED_MS = 5000;
/** When to ask again after no door could be reached to renew a token, in milliseconds. */
const UNREACHABLE_RETRY_MS = 30_000;
/** The longest a token is used without renewal, in milliseconds: a browser's timer of 25 days would fire at once. */
const LONGEST_MS = 24 * 3600 * 1000;

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

/**
 * The room token of a call. One that a door gave to a guest is renewed at half of its life, so that the call outlasts
 * it: every new socket needs a valid one. Any other is used as it is.
 */
export class RoomToken {
  readonly #environment: Environment;
  readonly #guest: Guest;
  readonly #pops: () => readonly PopEntry[];
  #value: string;
  #cancelRenewal: Cancel | undefined;
  #stopped = false;

  /** `pops` says whose doors to ask when it is time, the best first. */
  constructor(environment: Environment, token: string | GuestToken, guest: Guest, pops: () => readonly PopEntry[]) {
    this.#environment = environment;
    this.#guest = guest;
    this.#pops = pops;
    this.#value = typeof token === "string" ? token : token.token;
    if (typeof token !== "string") this.#renewAfter(halfLifeOf(token));
  }

  /** The newest. */
  get value(): string {
    return this.#value;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelRenewal?.();
  }

  #renewAfter(delayMs: number): void {
    if (this.#stopped) return;
    this.#cancelRenewal = this.#environment.after(Math.min(delayMs, LONGEST_MS), () => void this.#renew());
  }

  async #renew(): Promise<void> {
    try {
      const { token } = await firstGrant(this.#environment, this.#pops(), { ...this.#guest, token: this.#value });
      this.#value = token.token;
      this.#renewAfter(halfLifeOf(token));
    } catch (error) {
      // Refused for good: guests are not let in there, or it has expired already. What we have is used to its end.
      if (!isFinal(error)) this.#renewAfter(isLimited(error) ? waitOf(error) : UNREACHABLE_RETRY_MS);
    }
  }
}

function halfLifeOf({ expires_in_s }: GuestToken): number {
  return (expires_in_s * 1000) / 2;
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
