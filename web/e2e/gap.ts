/** What has arrived on one stream so far, as `RTCInboundRtpStreamStats` counts it. */
export interface Stream {
  id: string;
  kind: "picture" | "sound";
  /** Pictures decoded, packets of sound received. */
  count: number;
  /** The times between one picture and the next, in seconds, and their squares: added up since the first. */
  spacing: number;
  squaredSpacing: number;
  /** How much sound was made up because none was there, in seconds. */
  concealed: number;
}

/** What a page's statistics say at a moment. */
export interface Sample {
  /** When they were taken, in milliseconds; a busy page hands them out later. */
  atMs: number;
  streams: Stream[];
}

export interface Gaps {
  /** The longest time without a new picture, of whatever stream. */
  pictureMs: number;
  /** Without sound. */
  soundMs: number;
  /** Since something came last, of what has been quiet for longer. */
  quietMs: number;
}

/**
 * The longest times in which nothing came, no shorter than they were. A browser on a busy machine may answer for its statistics
 * a second late though pictures never stopped, so what passed between two samples is no measure: if a time of `g` passed without a
 * picture between them, the squares of all times between pictures grew by `g * g` at least; and as much sound was made up as was
 * missing.
 */
export function longestGaps(samples: Sample[]): Gaps {
  const [picture, sound] = (["picture", "sound"] as const).map((kind) => longestGap(samples, kind));
  return {
    pictureMs: Math.round(picture?.longestMs ?? 0),
    soundMs: Math.round(sound?.longestMs ?? 0),
    quietMs: Math.round(Math.max(picture?.quietMs ?? 0, sound?.quietMs ?? 0)),
  };
}

function longestGap(samples: Sample[], kind: Stream["kind"]): { longestMs: number; quietMs: number } {
  let last = samples[0];
  let [longestMs, quietMs] = [0, 0];
  for (const sample of samples) {
    if (!last) break;
    quietMs = sample.atMs - last.atMs;
    const came = since(last, sample, kind);
    if (came.count === 0) continue;
    longestMs = Math.max(longestMs, Math.min(quietMs, came.gapMs));
    [last, quietMs] = [sample, 0];
  }
  return { longestMs: Math.max(longestMs, quietMs), quietMs };
}

/** How much came between two samples, and the longest gap that the streams themselves tell of. */
function since(before: Sample, after: Sample, kind: Stream["kind"]): { count: number; gapMs: number } {
  const earlier = new Map(before.streams.map((stream) => [stream.id, stream]));
  let [count, squares, runsFor, concealed] = [0, 0, 0, 0];
  let isNew = false;
  for (const stream of after.streams.filter((one) => one.kind === kind)) {
    const was = earlier.get(stream.id);
    const added = stream.count - (was?.count ?? 0);
    if (added <= 0) continue;
    count += added;
    squares += stream.squaredSpacing - (was?.squaredSpacing ?? 0);
    concealed += stream.concealed - (was?.concealed ?? 0);
    // A stream that was not there before tells of nothing before its first picture.
    isNew ||= (was?.count ?? 0) === 0;
    runsFor = Math.max(runsFor, stream.spacing);
  }
  const withinMs = (kind === "picture" ? Math.sqrt(squares) : concealed) * 1000;
  if (!isNew) return { count, gapMs: withinMs };
  return { count, gapMs: Math.max(withinMs, after.atMs - before.atMs - runsFor * 1000) };
}
