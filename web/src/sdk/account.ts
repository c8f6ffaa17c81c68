import { askDoor, callDoor, DoorRefusal, jsonPost } from "./doors";
import { Emitter } from "./emitter";
import type { Cancel, Environment } from "./environment";
import type { DeviceId, PersonId, Registration, SignedIn, SignIn } from "./protocol.gen";

/** Whether somebody is signed in on this device. */
export type AccountState =
  /** Not known yet: no door has answered. */
  | { phase: "unknown" }
  | { phase: "out"; reason: "never" | "signed_out" | "session_over" }
  | { phase: "in"; person: PersonId; device: DeviceId };

/** Where an exchange that was begun is remembered, so that one whose answer was lost is repeated and not taken for theft. */
export type AttemptStore = Pick<Storage, "getItem" | "setItem" | "removeItem">;

const ATTEMPT_KEY = "isthmus.renewal";
/** A token is renewed this long before it expires, in milliseconds: requests that are under way still hold it. */
const AHEAD_MS = 120_000;
/** When to ask again after no door could be reached, in milliseconds. */
const RETRY_MS = 5_000;

/**
 * Who is signed in on this device, and the access token that says so to any door. The refresh token is in a cookie that no script
 * reads; this only asks for it to be exchanged.
 */
export class Account extends Emitter<{ change: [AccountState] }> {
  readonly #environment: Environment;
  readonly #doors: () => readonly string[];
  readonly #attempts: AttemptStore;
  #state: AccountState = { phase: "unknown" };
  #token: { value: string; untilMs: number } | undefined;
  #renewal: Promise<void> | undefined;
  #cancelRenewal: Cancel | undefined;

  /** `doors` says whose doors to ask, the best first: origins. */
  constructor(environment: Environment, doors: () => readonly string[], attempts: AttemptStore) {
    super();
    this.#environment = environment;
    this.#doors = doors;
    this.#attempts = attempts;
  }

  get state(): AccountState {
    return this.#state;
  }

  /** Goes on with the session that the browser kept, if there is one. Once, when the app starts. */
  restore(): Promise<void> {
    return this.#renew();
  }

  /** Opens an account. Throws what the door refuses with. */
  async register(registration: Registration): Promise<void> {
    this.#isIn(await this.#ask<SignedIn>("/v1/accounts", jsonPost(registration)));
  }

  /** Signs in. Throws what the door refuses with. */
  async signIn(signIn: SignIn): Promise<void> {
    this.#isIn(await this.#ask<SignedIn>("/v1/sessions", jsonPost(signIn)));
  }

  /** Signs this device out, here at once and everywhere when its last access token expires. */
  async signOut(): Promise<void> {
    if (this.#state.phase !== "in") return;
    const { device } = this.#state;
    const authorization = `Bearer ${await this.token()}`;
    const init: RequestInit = { method: "DELETE", headers: { authorization }, credentials: "include" };
    await this.#atHome((door) => callDoor(this.#environment, `${door}/v1/devices/${encodeURIComponent(device)}`, init));
    this.#isOut("signed_out");
  }

  /** A token that is good for a while, for requests to any door. Throws if nobody is signed in. */
  async token(): Promise<string> {
    if (this.#token === undefined || this.#token.untilMs <= this.#environment.now()) await this.#renew();
    if (this.#token === undefined) throw new Error("Nobody is signed in.");
    return this.#token.value;
  }

  /** All who ask at the same time wait for one exchange. */
  #renew(): Promise<void> {
    this.#renewal ??= this.#exchange().finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #exchange(): Promise<void> {
    try {
      // Tabs share the cookie: each exchange is to see what the one before has put there.
      const signedIn = await this.#environment.exclusively(ATTEMPT_KEY, async () => {
        const attempt = this.#attempts.getItem(ATTEMPT_KEY) ?? this.#newAttempt();
        this.#attempts.setItem(ATTEMPT_KEY, attempt);
        const answer = await this.#ask<SignedIn>("/v1/sessions/renew", jsonPost({ attempt }));
        this.#attempts.removeItem(ATTEMPT_KEY);
        return answer;
      });
      this.#isIn(signedIn);
    } catch (error) {
      if (error instanceof DoorRefusal && (error.code === "session_over" || error.code === "not_found")) {
        this.#attempts.removeItem(ATTEMPT_KEY);
        this.#isOut(this.#state.phase === "in" ? "session_over" : "never");
      } else {
        this.#renewAfter(retryOf(error));
      }
    }
  }

  #newAttempt(): string {
    return Array.from({ length: 4 }, () => Math.floor(this.#environment.random() * 2 ** 32).toString(36)).join("-");
  }

  #ask<Answer>(path: string, init: RequestInit): Promise<Answer> {
    return this.#atHome((door) => askDoor<Answer>(this.#environment, door + path, { ...init, credentials: "include" }));
  }

  /** Asks one door after the other, and the one that they say is to be asked. What a door refuses otherwise is final. */
  async #atHome<Answer>(ask: (door: string) => Promise<Answer>): Promise<Answer> {
    const doors = [...this.#doors()];
    const asked = new Set<string>();
    let last: unknown = new Error("No door is known.");
    for (let door = doors.shift(); door !== undefined; door = doors.shift()) {
      if (asked.has(door)) continue;
      asked.add(door);
      try {
        return await ask(door);
      } catch (error) {
        last = error;
        if (!(error instanceof DoorRefusal) || error.status >= 500) continue;
        if (error.code !== "not_home") throw error;
        if (error.at !== undefined) doors.unshift(error.at);
      }
    }
    throw last;
  }

  #isIn({ person, device, access_token, expires_in_s }: SignedIn): void {
    const expiresMs = expires_in_s * 1000;
    this.#token = { value: access_token, untilMs: this.#environment.now() + expiresMs - AHEAD_MS / 2 };
    this.#renewAfter(Math.max(expiresMs - AHEAD_MS, expiresMs / 2));
    this.#become({ phase: "in", person, device });
  }

  #isOut(reason: "never" | "signed_out" | "session_over"): void {
    this.#token = undefined;
    this.#cancelRenewal?.();
    this.#become({ phase: "out", reason });
  }

  #renewAfter(delayMs: number): void {
    this.#cancelRenewal?.();
    this.#cancelRenewal = this.#environment.after(delayMs, () => void this.#renew());
  }

  #become(state: AccountState): void {
    this.#state = state;
    this.emit("change", state);
  }
}

function retryOf(error: unknown): number {
  return (error instanceof DoorRefusal ? error.retryAfterMs : undefined) ?? RETRY_MS;
}
