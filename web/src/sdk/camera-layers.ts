/** The camera's simulcast layers, lowest first. */
const LAYERS = [
  { rid: "q", maxBitrate: 150_000 },
  { rid: "h", maxBitrate: 500_000 },
  { rid: "f", maxBitrate: 1_700_000 },
];
/**
 * From how many pixels on a picture is sent in three sizes, in two. Chromium sends no more of a smaller one whatever is asked
 * for, and leaves out the largest, so it must be asked for fewer; a quarter of a small picture would show nobody anyway.
 */
const THREE_SIZES_PX = 960 * 540;
const TWO_SIZES_PX = 480 * 270;

/** By how much each layer of a picture is smaller than what is captured; it is sent in no more layers than this. */
function scalesOf(track: MediaStreamTrack | null): number[] {
  const { width, height } = track?.getSettings() ?? {};
  const px = width === undefined || height === undefined ? THREE_SIZES_PX : width * height;
  if (px >= THREE_SIZES_PX) return [4, 2, 1];
  return px >= TWO_SIZES_PX ? [2, 1] : [1];
}

/** The layers for a camera of which `track` is what is captured. */
export function cameraLayers(track: MediaStreamTrack | null): RTCRtpEncodingParameters[] {
  const scales = scalesOf(track);
  return LAYERS.map((layer, index) => ({ ...layer, scaleResolutionDownBy: scales[index] ?? 1, active: index < scales.length }));
}

/** Fits `encodings` to what is captured now and to what is shown somewhere, in place; whether anything changed. */
export function fitLayers(
  encodings: RTCRtpEncodingParameters[],
  track: MediaStreamTrack | null,
  shown: readonly string[] | undefined,
): boolean {
  let changed = false;
  for (const layer of cameraLayers(track)) {
    const encoding = encodings.find(({ rid }) => rid === layer.rid);
    if (encoding === undefined) continue;
    const active = layer.active === true && (shown?.includes(layer.rid ?? "") ?? true);
    const { scaleResolutionDownBy } = layer;
    changed ||= encoding.active !== active || encoding.scaleResolutionDownBy !== scaleResolutionDownBy;
    Object.assign(encoding, { active, scaleResolutionDownBy });
  }
  return changed;
}
