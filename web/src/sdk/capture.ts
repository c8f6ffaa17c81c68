import type { Devices } from "./environment";

/** Why a device cannot be used, in kinds that a person can do something about. */
export type CaptureProblem = "denied" | "not_found" | "in_use" | "stopped" | "not_available" | "cancelled";

/** A microphone, camera or screen could not be had. */
export class CaptureError extends Error {
  readonly problem: CaptureProblem;

  constructor(problem: CaptureProblem, cause?: unknown) {
    super(`Capture failed: ${problem}`, { cause });
    this.name = "CaptureError";
    this.problem = problem;
  }
}

const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export function captureMicrophone(devices: Devices | undefined, deviceId?: string): Promise<MediaStreamTrack> {
  return capture(devices, { audio: { ...MICROPHONE, ...preferring(deviceId) } });
}

export function captureCamera(devices: Devices | undefined, deviceId?: string): Promise<MediaStreamTrack> {
  return capture(devices, { video: { ...CAMERA, ...preferring(deviceId) } });
}

/** The devices a person chose, by id. */
export interface ChosenDevices {
  microphone?: string;
  camera?: string;
}

/** Microphone and camera with one question; if they cannot be had together, each for itself. */
export async function captureBoth(
  devices: Devices | undefined,
  chosen: ChosenDevices,
): Promise<Record<"microphone" | "camera", MediaStreamTrack | CaptureError>> {
  try {
    const audio = { ...MICROPHONE, ...preferring(chosen.microphone) };
    const video = { ...CAMERA, ...preferring(chosen.camera) };
    const stream = await available(devices).getUserMedia({ audio, video });
    return { microphone: only(stream.getAudioTracks()), camera: only(stream.getVideoTracks()) };
  } catch (error) {
    const failed = new CaptureError(problemOf(error), error);
    // Asking again would only be refused again.
    if (failed.problem === "denied" || failed.problem === "not_available") return { microphone: failed, camera: failed };
    const settle = (track: Promise<MediaStreamTrack>) => track.catch((reason: CaptureError) => reason);
    return {
      microphone: await settle(captureMicrophone(devices, chosen.microphone)),
      camera: await settle(captureCamera(devices, chosen.camera)),
    };
  }
}

/** Lets the person choose a screen, window or tab. Its sound comes with it where the browser offers that. */
export async function captureScreen(
  devices: Devices | undefined,
): Promise<{ video: MediaStreamTrack; audio: MediaStreamTrack | undefined }> {
  try {
    const stream = await available(devices).getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
    const video = only(stream.getVideoTracks());
    // Text matters more than motion on a shared screen.
    video.contentHint = "detail";
    return { video, audio: stream.getAudioTracks()[0] };
  } catch (error) {
    const problem = problemOf(error);
    throw new CaptureError(problem === "denied" ? "cancelled" : problem, error);
  }
}

/** The microphones and cameras there are. Their labels are empty until permission was given once. */
export async function listDevices(
  devices: Devices | undefined,
): Promise<{ microphones: MediaDeviceInfo[]; cameras: MediaDeviceInfo[] }> {
  const all = (await devices?.enumerateDevices()) ?? [];
  const named = all.filter((device) => device.deviceId !== "");
  return {
    microphones: named.filter((device) => device.kind === "audioinput"),
    cameras: named.filter((device) => device.kind === "videoinput"),
  };
}

async function capture(devices: Devices | undefined, constraints: MediaStreamConstraints): Promise<MediaStreamTrack> {
  try {
    const stream = await available(devices).getUserMedia(constraints);
    return only(stream.getTracks());
  } catch (error) {
    throw new CaptureError(problemOf(error), error);
  }
}

function only(tracks: MediaStreamTrack[]): MediaStreamTrack {
  const [track] = tracks;
  if (track === undefined) throw new CaptureError("not_available");
  return track;
}

function available(devices: Devices | undefined): Devices {
  if (devices === undefined) throw new CaptureError("not_available");
  return devices;
}

/** `ideal`, not `exact`: a device that was unplugged since must not keep anyone out. */
function preferring(deviceId: string | undefined): { deviceId?: ConstrainDOMString } {
  return deviceId === undefined ? {} : { deviceId: { ideal: deviceId } };
}

function problemOf(error: unknown): CaptureProblem {
  if (error instanceof CaptureError) return error.problem;
  switch ((error as DOMException | undefined)?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "not_found";
    case "NotReadableError":
    case "AbortError":
      return "in_use";
    default:
      return "not_available";
  }
}
