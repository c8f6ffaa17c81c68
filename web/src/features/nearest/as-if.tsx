import { useSyncExternalStore } from "react";

import { useServices } from "@/app/services";

/** Places a development cluster can answer as if from: as in the query, and for people. */
const PLACES = [
  ["bogota", "Bogotá"],
  ["jakarta", "Jakarta"],
  ["milan", "Milan"],
] as const;

/** Says that delays are emulated when a door says so, so that nobody takes them for real ones. */
export function AsIfBanner() {
  const { nearest } = useServices();
  const state = useSyncExternalStore(nearest.subscribe, nearest.getState);
  if (state.phase !== "found" || state.discovery.asIf === undefined) return null;
  return (
    <p className="safe-x bg-muted py-1.5 text-center text-xs text-muted-foreground">
      Development: probing delays are emulated as if you were in {state.discovery.asIf}.
    </p>
  );
}

/** On a development machine: links to try the choice of the nearest PoP from elsewhere. */
export function AsIfLinks() {
  const { nearest, development } = useServices();
  if (!development) return null;
  return (
    <nav aria-label="Emulated places" className="flex flex-wrap gap-x-4 gap-y-1 text-sm text-muted-foreground">
      <span>Try it as if</span>
      {PLACES.map(([place, name]) => (
        <a
          key={place}
          href={`?as-if=${place}`}
          aria-current={nearest.asIf === place ? "page" : undefined}
          className="underline decoration-border underline-offset-4 hover:text-foreground aria-[current]:text-foreground aria-[current]:decoration-primary"
        >
          in {name}
        </a>
      ))}
    </nav>
  );
}
