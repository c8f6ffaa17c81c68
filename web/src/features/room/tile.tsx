import { MicOff } from "lucide-react";
import type { CSSProperties } from "react";

import { Avatar } from "@/components/ui/avatar";
import { cn } from "@/lib/utils";
import type { Person } from "@/features/call/call";

import { PictureHint } from "./picture-hint";
import { Video } from "./video";

interface TileProps {
  person: Person;
  style?: CSSProperties;
  className?: string;
  /** The last picture stays, but it is no longer now. */
  stale?: boolean;
  /** Whether to tell who speaks: among several, not to the only one. */
  ring?: boolean;
  /** For the small picture of ourselves, where there is no room for a name. */
  bare?: boolean;
}

/** A person: their picture, or their initials, with their name and whether they are muted. */
export function Tile({ person, style, className, stale = false, ring = true, bare = false }: TileProps) {
  const { camera, name, isSelf, muted, speaking } = person;
  const shown = camera?.media !== undefined && camera.hidden === "live";
  return (
    <figure
      aria-label={isSelf ? "You" : name}
      style={style}
      className={cn(
        "@container relative isolate overflow-hidden rounded-2xl bg-zinc-800",
        "after:pointer-events-none after:absolute after:inset-0 after:rounded-2xl after:transition-shadow after:duration-200",
        speaking && ring && !stale && "after:shadow-[inset_0_0_0_3px_var(--primary),inset_0_0_8px_var(--primary)]",
        className,
      )}
    >
      {shown ? (
        <Video media={camera.media as MediaStreamTrack} mirrored={isSelf} className={dimmed(stale)} />
      ) : (
        <div className={cn("@container-size grid size-full place-items-center", dimmed(stale))}>
          <Avatar name={name} className="w-[clamp(2.5rem,38cqmin,11rem)]" />
        </div>
      )}
      <PictureHint hidden={camera?.hidden} />
      {!bare && <Label name={isSelf ? "You" : name} muted={muted} />}
    </figure>
  );
}

function Label({ name, muted }: { name: string; muted: boolean }) {
  return (
    <figcaption className="absolute bottom-2 left-2 hidden max-w-[calc(100%-1rem)] items-center gap-1.5 rounded-lg bg-black/55 px-2 py-1 text-[13px] leading-5 text-white @min-[5.5rem]:flex">
      {muted && <MicOff role="img" aria-label="Muted" className="size-3.5 shrink-0" />}
      <bdi className="truncate">{name}</bdi>
    </figcaption>
  );
}

function dimmed(stale: boolean): string {
  return cn("transition-[filter,opacity] duration-200", stale && "opacity-80 brightness-60 grayscale");
}
