import { Link } from "lucide-react";
import { useCallback, useState } from "react";

import { Button } from "@/components/ui/button";
import { toast } from "@/components/ui/toast";
import type { CallActions, CallSnapshot } from "@/features/call/call";
import { SettingsDialog } from "@/features/call/settings-dialog";
import { cn } from "@/lib/utils";

import { ConnectionBadge } from "./connection-badge";
import { ConnectionNotice } from "./connection-notice";
import { Controls } from "./controls";
import { PeoplePanel } from "./people-panel";
import { Stage } from "./stage";
import { useShortcuts } from "./use-shortcuts";
import { useStillness } from "./use-stillness";
import { Voices } from "./voices";

interface RoomViewProps {
  call: CallSnapshot;
  actions: CallActions;
}

/** A call in progress: a dark stage in both themes. */
export function RoomView({ call, actions }: RoomViewProps) {
  const [panel, setPanel] = useState<"people" | "settings">();
  const still = useStillness();
  useShortcuts(call, actions);
  const setView = useCallback<CallActions["setView"]>((tiles) => actions.setView(tiles), [actions]);
  const alone = call.others.length === 0 && call.connection.phase === "connected";
  // Someone alone is about to copy the link: nothing fades away from under the pointer.
  const faded = still && panel === undefined && call.others.length > 0 && call.connection.phase === "connected";
  // Under a finger what is not seen is not pressed: the first touch only brings it back.
  const fading = cn(
    "transition-opacity duration-200 has-[:focus-visible]:opacity-100",
    faded && "opacity-0 pointer-coarse:pointer-events-none",
  );

  return (
    <main data-stage className="safe-x flex h-dvh flex-col bg-zinc-950 text-white">
      <h1 className="sr-only">Call in {call.room}</h1>
      <header className={cn("safe-top flex items-center justify-between gap-3 pb-2", fading)}>
        <Button variant="stage" size="sm" className="h-9 min-w-0 shrink rounded-full" aria-label="Copy link" onClick={() => void copyLink(call.room)}>
          <Link className="size-4" />
          <span className="truncate">{call.room}</span>
        </Button>
        <ConnectionBadge connection={call.connection} />
      </header>
      <div className="relative flex min-h-0 flex-1 gap-2">
        <Stage call={call} setView={setView} />
        {alone && <Alone room={call.room} />}
        <ConnectionNotice connection={call.connection} />
        {panel === "people" && (
          <PeoplePanel call={call} onClose={() => setPanel(undefined)} onCopyLink={() => void copyLink(call.room)} />
        )}
      </div>
      <Voices tracks={call.voices} />
      <Controls
        call={call}
        actions={actions}
        className={cn("safe-bottom pt-3", fading)}
        peopleOpen={panel === "people"}
        onPeople={() => setPanel(panel === "people" ? undefined : "people")}
        onSettings={() => setPanel("settings")}
      />
      <SettingsDialog open={panel === "settings"} onClose={() => setPanel(undefined)} actions={actions} local={call.local} />
    </main>
  );
}

function Alone({ room }: { room: string }) {
  return (
    <div className="absolute inset-x-0 bottom-4 z-10 mx-auto flex w-fit max-w-[calc(100%-2rem)] flex-col items-center gap-3 rounded-2xl bg-zinc-900/90 px-5 py-4 text-center ring-1 ring-white/10 sm:flex-row sm:text-left">
      <p className="text-sm text-white/90">You are the only one here. Send the link to whoever should join.</p>
      <Button onClick={() => void copyLink(room)}>
        <Link /> Copy link
      </Button>
    </div>
  );
}

async function copyLink(room: string): Promise<void> {
  const link = `${location.origin}/r/${room}`;
  try {
    await navigator.clipboard.writeText(link);
    toast("Link copied");
  } catch {
    toast("Copy this link", link);
  }
}
