import { Link, MicOff, MonitorUp, VideoOff, X } from "lucide-react";

import { Avatar } from "@/components/ui/avatar";
import { Button } from "@/components/ui/button";
import type { CallSnapshot, Person } from "@/features/call/call";

interface PeoplePanelProps {
  call: CallSnapshot;
  onClose: () => void;
  onCopyLink: () => void;
}

/** Who is here. */
export function PeoplePanel({ call, onClose, onCopyLink }: PeoplePanelProps) {
  const people = [call.self, ...call.others];
  return (
    <section
      aria-label="Participants"
      className="absolute inset-0 z-30 flex flex-col rounded-2xl bg-card sm:relative sm:inset-auto sm:w-80 sm:shrink-0"
    >
      <header className="flex items-center justify-between py-2 pr-2 pl-4">
        <h2 className="font-semibold">
          Participants <span className="font-normal text-muted-foreground tabular-nums">{people.length}</span>
        </h2>
        <Button variant="ghost" size="icon" aria-label="Close participants" onClick={onClose}>
          <X />
        </Button>
      </header>
      <ul className="min-h-0 flex-1 overflow-y-auto px-2">
        {people.map((person) => (
          <PersonRow key={person.key} person={person} />
        ))}
      </ul>
      <div className="p-3">
        <Button variant="secondary" className="w-full" onClick={onCopyLink}>
          <Link /> Invite with a link
        </Button>
      </div>
    </section>
  );
}

function PersonRow({ person }: { person: Person }) {
  return (
    <li className="flex items-center gap-3 rounded-lg px-2 py-2">
      <Avatar name={person.name} className="w-9" />
      <span className="min-w-0 flex-1 truncate">
        <bdi>{person.name}</bdi>
        {person.isSelf && <span className="text-muted-foreground"> (you)</span>}
      </span>
      <span className="flex items-center gap-2.5 text-muted-foreground">
        {person.screen !== undefined && <MonitorUp role="img" aria-label="Shares a screen" className="size-4" />}
        {person.camera === undefined && <VideoOff role="img" aria-label="Camera off" className="size-4" />}
        {person.muted && <MicOff role="img" aria-label="Muted" className="size-4" />}
      </span>
    </li>
  );
}
