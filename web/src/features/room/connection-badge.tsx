import { Signal, SignalLow, SignalMedium, Unplug, type LucideIcon } from "lucide-react";

import { Button } from "@/components/ui/button";
import { Popover, PopoverContent, PopoverTitle, PopoverTrigger } from "@/components/ui/popover";
import type { Connection } from "@/features/call/call";
import { milliseconds, QUALITY_WORDS } from "@/lib/words";
import type { ConnectionStats, Quality } from "@/sdk";

/** What there is to say before there is a connection is not how good it is. */
type Shown = Quality | "none yet";

const ICONS: Record<Shown, LucideIcon | undefined> = {
  good: Signal,
  fair: SignalMedium,
  poor: SignalLow,
  lost: Unplug,
  "none yet": undefined,
};
const COLOURS: Record<Shown, string> = {
  good: "text-success",
  fair: "text-warning",
  poor: "text-warning",
  lost: "text-destructive",
  "none yet": "",
};
const WORDS: Record<Shown, string> = { ...QUALITY_WORDS, "none yet": "Connecting" };
/** The simulcast layers, as `CAMERA_LAYERS` in the SDK names them. */
const LAYER_WORDS: Record<string, string> = { q: "Sent small", h: "Sent medium", f: "Sent large" };

/** Where the call goes through and how far that is, in words; opens the statistics. */
export function ConnectionBadge({ connection }: { connection: Connection }) {
  const { phase, place, rttMs, stats } = connection;
  const shown: Shown = phase === "connecting" ? "none yet" : connection.quality;
  const Icon = ICONS[shown];
  const where = [place, rttMs === undefined ? undefined : milliseconds(rttMs)].filter(Boolean).join(", ");
  return (
    <Popover>
      <PopoverTrigger
        render={<Button variant="stage" size="sm" className="h-9 rounded-full tabular-nums" />}
        aria-label={`Connection: ${where || "not yet"}. ${WORDS[shown]}`}
      >
        {Icon !== undefined && <Icon strokeWidth={shown === "lost" ? 2 : 3} className={`size-4 ${COLOURS[shown]}`} />}
        {where || "Connecting"}
        {where !== "" && shown !== "good" && <span className="hidden text-white/75 sm:inline">{WORDS[shown]}</span>}
      </PopoverTrigger>
      <PopoverContent align="end">
        <PopoverTitle>{WORDS[shown]}</PopoverTitle>
        {stats === undefined ? <p className="mt-1 text-sm text-muted-foreground">Nothing measured yet.</p> : <Statistics stats={stats} place={place} />}
      </PopoverContent>
    </Popover>
  );
}

function Statistics({ stats, place }: { stats: ConnectionStats; place: string | undefined }) {
  const video = stats.slots.filter((slot) => slot.kind === "video" && slot.kbps > 0);
  const layers = stats.layers.filter((layer) => layer.kbps > 0);
  return (
    <dl className="mt-3 grid grid-cols-[auto_1fr] gap-x-4 gap-y-1.5 text-sm tabular-nums [&>dd]:text-right [&>dt]:text-muted-foreground">
      <dt>Through</dt>
      <dd>{place ?? "nowhere yet"}</dd>
      <dt>Round trip</dt>
      <dd>{stats.rttMs === undefined ? "not measured yet" : milliseconds(stats.rttMs)}</dd>
      <dt>Packets lost</dt>
      <dd>{(stats.loss * 100).toFixed(1)} %</dd>
      <dt>Jitter</dt>
      <dd>{stats.jitterMs.toFixed(0)} ms</dd>
      <dt>Receiving</dt>
      <dd>{rate(stats.inboundKbps)}</dd>
      <dt>Sending</dt>
      <dd>{rate(stats.outboundKbps)}</dd>
      <dt>Transport</dt>
      <dd>{stats.transport?.toUpperCase() ?? "none yet"}</dd>
      {video.map((slot, index) => (
        <Line key={slot.mid} name={`Picture ${index + 1}`} height={slot.height} fps={slot.framesPerSecond} kbps={slot.kbps} />
      ))}
      {layers.map((layer) => (
        <Line key={layer.rid} name={LAYER_WORDS[layer.rid] ?? `Sent ${layer.rid}`} height={layer.height} fps={layer.framesPerSecond} kbps={layer.kbps} />
      ))}
    </dl>
  );
}

function Line({ name, height, fps, kbps }: { name: string; height?: number; fps?: number; kbps: number }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>
        {height !== undefined && `${height}p `}
        {fps !== undefined && `${Math.round(fps)} fps `}
        {rate(kbps)}
      </dd>
    </>
  );
}

function rate(kbps: number): string {
  return kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`;
}
