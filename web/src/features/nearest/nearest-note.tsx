import { useEffect, useSyncExternalStore } from "react";

import { useServices } from "@/app/services";
import { cityOf, milliseconds } from "@/lib/words";

/** Which PoP a call would go through: the nearest, as measured from here. */
export function NearestNote() {
  const { nearest, environment } = useServices();
  const state = useSyncExternalStore(nearest.subscribe, nearest.getState);
  useEffect(() => {
    nearest.find().catch(() => undefined);
    return environment.onNetworkChange(() => void nearest.findAgain().catch(() => undefined));
  }, [nearest, environment]);

  return (
    <p className="flex min-h-5 items-center gap-2 text-sm text-muted-foreground tabular-nums">
      {state.phase === "looking" && "Finding the nearest place to connect"}
      {state.phase === "unreachable" && "You seem to be offline. Calls work once you are back."}
      {state.phase === "found" && <Found pop={state.discovery.pops[0]} />}
    </p>
  );
}

function Found({ pop }: { pop: { region: string; measuredMs?: number } | undefined }) {
  if (pop === undefined) return "No place to connect is up at the moment.";
  return (
    <>
      <span aria-hidden className="size-2 rounded-full bg-success" />
      Calls go through {cityOf(pop.region)}
      {pop.measuredMs !== undefined && `, ${milliseconds(pop.measuredMs)} away`}
    </>
  );
}
