import { useRef, useState, type KeyboardEvent, type PointerEvent } from "react";

import type { Person } from "@/features/call/call";
import { cn } from "@/lib/utils";

import { Tile } from "./tile";

interface Corner {
  x: "left" | "right";
  y: "top" | "bottom";
}

const KEYS: Record<string, Partial<Corner>> = {
  ArrowLeft: { x: "left" },
  ArrowRight: { x: "right" },
  ArrowUp: { y: "top" },
  ArrowDown: { y: "bottom" },
};

/** Our own picture, small, over the other's: dragged or moved by arrow keys to any corner. */
export function SelfPicture({ self }: { self: Person }) {
  const [corner, setCorner] = useState<Corner>({ x: "right", y: "bottom" });
  const [drag, setDrag] = useState<{ x: number; y: number }>();
  const start = useRef<{ x: number; y: number }>(undefined);

  const onPointerDown = (event: PointerEvent) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    start.current = { x: event.clientX, y: event.clientY };
  };
  const onPointerMove = (event: PointerEvent) => {
    if (start.current !== undefined) setDrag({ x: event.clientX - start.current.x, y: event.clientY - start.current.y });
  };
  const onPointerUp = (event: PointerEvent) => {
    const area = event.currentTarget.parentElement?.getBoundingClientRect();
    if (area !== undefined && drag !== undefined) {
      setCorner({
        x: event.clientX < area.left + area.width / 2 ? "left" : "right",
        y: event.clientY < area.top + area.height / 2 ? "top" : "bottom",
      });
    }
    start.current = undefined;
    setDrag(undefined);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const move = KEYS[event.key];
    if (move === undefined) return;
    event.preventDefault();
    setCorner((present) => ({ ...present, ...move }));
  };

  return (
    <div
      role="button"
      tabIndex={0}
      aria-label="Your picture. Arrow keys move it to another corner."
      style={{ translate: drag === undefined ? undefined : `${drag.x}px ${drag.y}px` }}
      className={cn(
        "absolute z-10 aspect-3/4 w-24 touch-none rounded-2xl ring-1 ring-white/15 outline-none focus-visible:ring-3 focus-visible:ring-ring sm:aspect-video sm:w-52",
        drag === undefined ? "cursor-grab transition-[translate] duration-150" : "cursor-grabbing",
        corner.x === "left" ? "left-3" : "right-3",
        corner.y === "top" ? "top-3" : "bottom-3",
      )}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={onPointerUp}
      onPointerCancel={onPointerUp}
      onKeyDown={onKeyDown}
    >
      <Tile person={self} ring={false} bare className="size-full" />
    </div>
  );
}
