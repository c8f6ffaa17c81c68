import { CircleAlert } from "lucide-react";

import { Button } from "@/components/ui/button";
import { PROBLEM_WORDS } from "@/lib/words";
import type { LocalState } from "@/sdk";

/** What to do when microphone or camera cannot be used. Joining without them is always possible. */
export function DeviceHelp({ local, onRetry }: { local: LocalState; onRetry: () => void }) {
  const { microphone, camera } = local;
  if (microphone.problem === undefined && camera.problem === undefined) return null;
  const both = microphone.problem === camera.problem;
  const lines = both
    ? [PROBLEM_WORDS[microphone.problem ?? "not_available"]("microphone and camera")]
    : [
        microphone.problem && PROBLEM_WORDS[microphone.problem]("microphone"),
        camera.problem && PROBLEM_WORDS[camera.problem]("camera"),
      ].filter((line) => line !== undefined);
  const denied = microphone.problem === "denied" || camera.problem === "denied";
  return (
    <div role="alert" className="flex gap-3 rounded-xl bg-muted p-4 text-sm">
      <CircleAlert aria-hidden className="mt-0.5 size-4.5 shrink-0 text-warning" />
      <div className="flex flex-col items-start gap-2">
        <p className="font-medium">{lines.join(" ")}</p>
        <p className="text-muted-foreground">
          {denied
            ? "Allow them with the icon beside the address above, then try again."
            : "Plug one in or free it, then try again."}{" "}
          {microphone.problem === undefined ? "You can also join without." : "You can also join without and just listen."}
        </p>
        <Button variant="outline" size="sm" onClick={onRetry}>
          Try again
        </Button>
      </div>
    </div>
  );
}
