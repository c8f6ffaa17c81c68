import { useEffect } from "react";

import type { CallSnapshot, Person, Picture } from "@/features/call/call";
import { useSize } from "@/lib/use-size";
import { cn } from "@/lib/utils";
import type { Tile as ShownTile } from "@/sdk";

import { MAX_TILES, tileSize, type Size } from "./grid";
import { PictureHint } from "./picture-hint";
import { SelfPicture } from "./self-picture";
import { Tile } from "./tile";
import { Video } from "./video";

const GAP = 8;

interface StageProps {
  call: CallSnapshot;
  setView: (tiles: ShownTile[]) => void;
}

/** The people, and whatever someone shares. */
export function Stage({ call, setView }: StageProps) {
  const { self, others, connection } = call;
  const stale = !connection.mediaFlows && connection.phase !== "connecting";
  const sharer = others.find((person) => person.screen !== undefined);
  // With one other person our own picture is a small one over theirs; in a group we are one of many.
  const floating = others.length === 1;
  const inGrid = others.length === 0 ? [self] : floating ? others : [...others, self];

  return (
    <div className="relative flex min-h-0 flex-1 flex-col gap-2 landscape:flex-row">
      {sharer?.screen !== undefined && <SharedScreen person={sharer} screen={sharer.screen} setView={setView} others={others} />}
      <Grid people={inGrid} stale={stale} setView={sharer === undefined ? setView : undefined} strip={sharer !== undefined} />
      {floating && <SelfPicture self={self} />}
    </div>
  );
}

function Grid({
  people,
  stale,
  strip,
  setView,
}: {
  people: Person[];
  stale: boolean;
  strip: boolean;
  setView: StageProps["setView"] | undefined;
}) {
  const [ref, area] = useSize();
  const shown = people.length > MAX_TILES ? people.slice(0, MAX_TILES - 1) : people;
  const hidden = people.length - shown.length;
  const count = shown.length + (hidden > 0 ? 1 : 0);
  const tile = tileSize(area, count, GAP);
  useView(setView, shown, tile);
  return (
    <div
      ref={ref}
      className={cn(
        "flex min-h-0 flex-1 flex-wrap content-center justify-center gap-2 overflow-hidden",
        strip && "landscape:w-40 landscape:flex-none lg:landscape:w-64",
      )}
    >
      {shown.map((person) => (
        <Tile
          key={person.key}
          person={person}
          style={tile}
          stale={stale && !person.isSelf}
          ring={shown.length > 1 || strip}
          bare={person.isSelf && shown.length === 1}
        />
      ))}
      {hidden > 0 && (
        <div style={tile} className="grid place-items-center rounded-2xl bg-zinc-800 text-sm text-white/80">
          and {hidden} others
        </div>
      )}
    </div>
  );
}

/**
 * What someone shares, under who shares it so that none of it is covered. Upright it takes the height of a wide screen
 * and leaves the rest to the people; on its side it takes all but a strip.
 */
function SharedScreen({
  person,
  screen,
  others,
  setView,
}: {
  person: Person;
  screen: Picture;
  others: Person[];
  setView: StageProps["setView"];
}) {
  const [ref, area] = useSize();
  useView(setView, others, { width: 0, height: 180 }, screen, area.height);
  return (
    <figure
      aria-label={`Screen of ${person.name}`}
      className="flex min-h-0 shrink-0 flex-col overflow-hidden rounded-2xl bg-zinc-900 landscape:flex-1"
    >
      <figcaption className="truncate px-3 py-1.5 text-[13px] text-white">
        <bdi>{person.name}</bdi> is sharing
      </figcaption>
      <div ref={ref} className="@container relative aspect-video min-h-0 w-full landscape:aspect-auto landscape:flex-1">
        {screen.media !== undefined && screen.hidden === "live" && <Video media={screen.media} whole />}
        <PictureHint hidden={screen.hidden} />
      </div>
    </figure>
  );
}

/** Tells the node what is shown and how large, so that it sends no more than that. */
function useView(
  setView: StageProps["setView"] | undefined,
  people: Person[],
  tile: Size,
  screen?: Picture,
  screenHeight = 0,
): void {
  const tiles: ShownTile[] = [];
  if (screen?.track !== undefined) tiles.push({ track: screen.track, height: pixels(screenHeight) });
  for (const { camera } of people) {
    if (camera?.track !== undefined) tiles.push({ track: camera.track, height: pixels(tile.height) });
  }
  const view = JSON.stringify(tiles);
  useEffect(() => {
    if (tile.height > 0) setView?.(JSON.parse(view) as ShownTile[]);
  }, [setView, view, tile.height]);
}

function pixels(height: number): number {
  return Math.min(4320, Math.round(height * devicePixelRatio));
}
