import { useNavigate } from "@tanstack/react-router";
import { Video } from "lucide-react";
import { useState, type FormEvent } from "react";

import { PageFrame } from "@/app/page-frame";
import { Button } from "@/components/ui/button";
import { Field, FieldError, FieldLabel } from "@/components/ui/field";
import { Input } from "@/components/ui/input";
import { AsIfLinks } from "@/features/nearest/as-if";
import { NearestNote } from "@/features/nearest/nearest-note";
import { newRoomName, roomFromInput } from "@/lib/room-name";
import { store, stored } from "@/lib/stored";

import { NameField } from "./name-field";

/** Make a room, or join one. */
export function StartPage() {
  const navigate = useNavigate();
  const [name, setName] = useState(stored("name") ?? "");
  const [input, setInput] = useState("");
  const [unclear, setUnclear] = useState(false);
  const enter = (room: string) => {
    if (name.trim() !== "") store("name", name.trim());
    void navigate({ to: "/r/$room", params: { room }, search: true });
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const room = roomFromInput(input);
    if (room === undefined) setUnclear(true);
    else enter(room);
  };

  return (
    <PageFrame>
      <title>Isthmus</title>
      <div className="mx-auto flex w-full max-w-md flex-col gap-8">
        <div className="flex flex-col gap-3">
          <h1 className="text-4xl font-semibold tracking-tight text-balance sm:text-5xl">Call anyone, near or far</h1>
          <p className="text-lg text-pretty text-muted-foreground">
            Send a link, meet in the browser. Nothing to install, no account.
          </p>
        </div>
        <div className="flex flex-col gap-5">
          <NameField value={name} onChange={setName} />
          <Button size="lg" onClick={() => enter(newRoomName())}>
            <Video /> New call
          </Button>
          <div aria-hidden className="flex items-center gap-4 text-sm text-muted-foreground before:h-px before:flex-1 before:bg-border after:h-px after:flex-1 after:bg-border">
            or
          </div>
          <form className="flex flex-col gap-5" onSubmit={submit}>
            <Field invalid={unclear}>
              <FieldLabel>Room name or link</FieldLabel>
              <div className="flex gap-2">
                <Input
                  value={input}
                  onValueChange={(value) => {
                    setInput(value);
                    setUnclear(false);
                  }}
                  autoCapitalize="none"
                  autoComplete="off"
                  spellCheck={false}
                  placeholder="team-sync"
                />
                <Button type="submit" variant="secondary" size="lg" disabled={input.trim() === ""}>
                  Join
                </Button>
              </div>
              <FieldError match={unclear}>Use letters, digits and dashes, or paste the whole link.</FieldError>
            </Field>
          </form>
        </div>
        <div className="flex flex-col gap-3">
          <NearestNote />
          <AsIfLinks />
        </div>
      </div>
    </PageFrame>
  );
}
