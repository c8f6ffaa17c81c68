import { useState, useSyncExternalStore, type FormEvent } from "react";

import { PageFrame } from "@/app/page-frame";
import { Button } from "@/components/ui/button";
import { NameField } from "@/features/start/name-field";
import { NearestNote } from "@/features/nearest/nearest-note";
import { stored } from "@/lib/stored";
import type { LocalParticipant } from "@/sdk";

import { DeviceHelp } from "./device-help";
import { DevicePicker } from "./device-picker";
import { PreviewPicture } from "./preview-picture";

interface PreviewPageProps {
  room: string;
  local: LocalParticipant;
  onJoin: (name: string) => void;
}

/** Before a call: how one looks and sounds, and under which name. */
export function PreviewPage({ room, local, onJoin }: PreviewPageProps) {
  const state = useSyncExternalStore(
    (listener) => local.on("changed", listener),
    () => local.state,
  );
  const [name, setName] = useState(stored("name") ?? "");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (name.trim() !== "") onJoin(name.trim());
  };

  return (
    <PageFrame>
      <div className="mx-auto grid w-full max-w-5xl gap-6 lg:grid-cols-[3fr_2fr] lg:grid-rows-[auto_1fr] lg:gap-x-12 lg:gap-y-4">
        <PreviewPicture name={name} state={state} local={local} />
        <form className="flex min-w-0 flex-col gap-5 lg:row-span-2 lg:self-center" onSubmit={submit}>
          <div className="flex flex-col gap-1">
            <h1 className="text-2xl font-semibold tracking-tight sm:text-3xl">Ready to join?</h1>
            <p className="truncate text-muted-foreground">{room}</p>
          </div>
          <DeviceHelp local={state} onRetry={() => void local.start()} />
          <NameField value={name} onChange={setName} />
          <Button type="submit" size="lg" disabled={name.trim() === ""}>
            Join
          </Button>
          <NearestNote />
        </form>
        <div className="flex flex-col gap-3 sm:flex-row lg:col-start-1">
          <DevicePicker source="microphone" local={state} onPick={(id) => void local.switchDevice("microphone", id)} />
          <DevicePicker source="camera" local={state} onPick={(id) => void local.switchDevice("camera", id)} />
        </div>
      </div>
    </PageFrame>
  );
}
