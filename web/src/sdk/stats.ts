/** What a call measures of itself, from two successive WebRTC statistics reports. */
export interface ConnectionStats {
  /** Round trip to the media node, in milliseconds. */
  rttMs: number | undefined;
  /** Share of incoming packets lost since the last sample, 0 to 1. */
  loss: number;
  /** The largest jitter of an incoming stream, in milliseconds. */
  jitterMs: number;
  inboundKbps: number;
  outboundKbps: number;
  /** `udp` or `tcp`. */
  transport: string | undefined;
  slots: SlotStats[];
  layers: LayerStats[];
}

export interface SlotStats {
  mid: string;
  kind: "audio" | "video";
  kbps: number;
  framesPerSecond: number | undefined;
  width: number | undefined;
  height: number | undefined;
}

export interface LayerStats {
  rid: string;
  kbps: number;
  framesPerSecond: number | undefined;
  height: number | undefined;
}

/** In words a person understands; `lost` is when nothing arrives. */
export type Quality = "good" | "fair" | "poor" | "lost";

/** Running totals, kept between samples. */
export interface Totals {
  atMs: number;
  bytes: Map<string, number>;
  received: number;
  lost: number;
}

export interface Sample {
  stats: ConnectionStats;
  totals: Totals;
  /** Packets and connectivity answers that arrived so far, some counted twice: while this grows, the path is alive. */
  arrivals: number;
}

interface Row {
  id: string;
  type: string;
  kind?: "audio" | "video";
  mid?: string;
  rid?: string;
  bytesReceived?: number;
  bytesSent?: number;
  packetsReceived?: number;
  packetsLost?: number;
  responsesReceived?: number;
  jitter?: number;
  framesPerSecond?: number;
  frameWidth?: number;
  frameHeight?: number;
  currentRoundTripTime?: number;
  nominated?: boolean;
  state?: string;
  localCandidateId?: string;
  protocol?: string;
}

export function sample(report: ReadonlyMap<string, unknown>, previous: Totals | undefined, nowMs: number): Sample {
  const rows = [...report.values()] as Row[];
  const totals = totalsOf(rows, nowMs);
  const kbps = (row: Row) => rate(totals, previous, row.id);
  const inbound = rows.filter((row) => row.type === "inbound-rtp");
  const outbound = rows.filter((row) => row.type === "outbound-rtp");
  const pair = rows.find((row) => row.type === "candidate-pair" && row.nominated === true && row.state === "succeeded");
  const local = rows.find((row) => row.id === pair?.localCandidateId);
  const stats: ConnectionStats = {
    rttMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1000,
    loss: lossSince(totals, previous),
    jitterMs: Math.max(0, ...inbound.map((row) => (row.jitter ?? 0) * 1000)),
    inboundKbps: sum(inbound, kbps),
    outboundKbps: sum(outbound, kbps),
    transport: local?.protocol,
    slots: inbound.map((row) => slotStats(row, kbps(row))),
    layers: outbound.filter((row) => row.rid !== undefined).map((row) => layerStats(row, kbps(row))),
  };
  const arrivals = sum(rows, arrivalsOf);
  return { stats, totals, arrivals };
}

export function qualityOf(stats: ConnectionStats): Quality {
  const rttMs = stats.rttMs ?? 0;
  if (stats.loss > 0.08 || rttMs > 600 || stats.jitterMs > 120) return "poor";
  if (stats.loss > 0.02 || rttMs > 300 || stats.jitterMs > 50) return "fair";
  return "good";
}

function totalsOf(rows: Row[], atMs: number): Totals {
  const streams = rows.filter((row) => row.type === "inbound-rtp" || row.type === "outbound-rtp");
  const inbound = streams.filter((row) => row.type === "inbound-rtp");
  return {
    atMs,
    bytes: new Map(streams.map((row) => [row.id, row.bytesReceived ?? row.bytesSent ?? 0])),
    received: sum(inbound, (row) => row.packetsReceived ?? 0),
    lost: sum(inbound, (row) => row.packetsLost ?? 0),
  };
}

function rate(totals: Totals, previous: Totals | undefined, id: string): number {
  const before = previous?.bytes.get(id);
  if (previous === undefined || before === undefined || totals.atMs <= previous.atMs) return 0;
  // Bits per millisecond are kilobits per second.
  return Math.max(0, (((totals.bytes.get(id) ?? 0) - before) * 8) / (totals.atMs - previous.atMs));
}

function lossSince(totals: Totals, previous: Totals | undefined): number {
  if (previous === undefined) return 0;
  const lost = Math.max(0, totals.lost - previous.lost);
  const expected = Math.max(0, totals.received - previous.received) + lost;
  return expected === 0 ? 0 : lost / expected;
}

/** Firefox has no transport's count and stops counting connectivity answers, so the streams' own counts go in too. */
function arrivalsOf(row: Row): number {
  switch (row.type) {
    case "transport":
    case "inbound-rtp":
      return row.packetsReceived ?? 0;
    case "candidate-pair":
      return row.responsesReceived ?? 0;
    default:
      return 0;
  }
}

function slotStats(row: Row, kbps: number): SlotStats {
  return {
    mid: row.mid ?? "",
    kind: row.kind ?? "video",
    kbps,
    framesPerSecond: row.framesPerSecond,
    width: row.frameWidth,
    height: row.frameHeight,
  };
}

function layerStats(row: Row, kbps: number): LayerStats {
  return { rid: row.rid ?? "", kbps, framesPerSecond: row.framesPerSecond, height: row.frameHeight };
}

function sum(rows: Row[], value: (row: Row) => number): number {
  return rows.reduce((total, row) => total + value(row), 0);
}
