import { discover, type Discovery, type Environment, type PopId } from "@/sdk";
import { store, stored } from "@/lib/stored";

/** How long a ranking is good for. */
const FRESH_MS = 30_000;

export type NearestState =
  | { phase: "looking" }
  | { phase: "found"; discovery: Discovery }
  | { phase: "unreachable" };

/** Finds the nearest PoP and keeps the answer for a while. Doors seen once are asked when the page's own is dead. */
export class Nearest {
  readonly #environment: Environment;
  readonly #origin: string;
  readonly asIf: string | undefined;
  readonly #listeners = new Set<() => void>();
  #state: NearestState = { phase: "looking" };
  /** How many searches were begun: what an earlier one finds later is out of date. */
  #searches = 0;
  #search: { promise: Promise<Discovery>; startedMs: number } | undefined;

  constructor(environment: Environment, origin: string, asIf: string | undefined) {
    this.#environment = environment;
    this.#origin = origin;
    this.asIf = asIf;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getState = (): NearestState => this.#state;

  /** The PoPs, best first; looks for them unless it did so a moment ago. */
  find(): Promise<Discovery> {
    const now = this.#environment.now();
    if (this.#search === undefined || this.#state.phase === "unreachable" || now - this.#search.startedMs > FRESH_MS) {
      return this.findAgain();
    }
    return this.#search.promise;
  }

  /**
   * Looks anew: on another network another PoP may be the nearest. `current`, the PoP in use, stays first unless another
   * is clearly better.
   */
  findAgain(current?: PopId): Promise<Discovery> {
    this.#search = { promise: this.#look(current), startedMs: this.#environment.now() };
    return this.#search.promise;
  }

  async #look(current: PopId | undefined): Promise<Discovery> {
    const nth = ++this.#searches;
    if (this.#state.phase === "unreachable") this.#set({ phase: "looking" });
    try {
      const known = stored("doors")?.split(" ") ?? [];
      const options = { origin: this.#origin, known, current, asIf: this.asIf };
      const discovery = await discover(this.#environment, options);
      store("doors", discovery.pops.map((pop) => pop.url).join(" "));
      if (nth === this.#searches) this.#set({ phase: "found", discovery });
      return discovery;
    } catch (error) {
      if (nth === this.#searches) this.#set({ phase: "unreachable" });
      throw error;
    }
  }

  #set(state: NearestState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}
