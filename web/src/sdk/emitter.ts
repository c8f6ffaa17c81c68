import type { Cancel } from "./environment";

type Listener<Arguments extends unknown[]> = (...args: Arguments) => void;
type Listeners<Events extends Record<keyof Events, unknown[]>> = { [Name in keyof Events]?: Set<Listener<Events[Name]>> };

/** Typed events: each name has its own argument list. */
export class Emitter<Events extends Record<keyof Events, unknown[]>> {
  readonly #listeners: Listeners<Events> = {};

  /** Calls `listener` at each event of that name; the returned function stops it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): Cancel {
    const listeners = (this.#listeners[name] ??= new Set());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  protected emit<Name extends keyof Events>(name: Name, ...args: Events[Name]): void {
    for (const listener of this.#listeners[name] ?? []) listener(...args);
  }
}
