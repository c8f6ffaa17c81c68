import type {
  ConnectionStats,
  EndReason,
  LocalState,
  ParticipantId,
  Phase,
  Quality,
  RemoteTrackPublication,
  Tile,
  TrackId,
} from "@/sdk";

/** A picture someone sends. */
export interface Picture {
  /** Undefined for our own. */
  track: TrackId | undefined;
  media: MediaStreamTrack | undefined;
  /** Why it is not seen, if it is not. */
  hidden: RemoteTrackPublication["slotState"];
}

/** Someone in the call, ourselves included. */
export interface Person {
  /** Stays the same through reconnections. */
  key: string;
  id: ParticipantId | undefined;
  name: string;
  isSelf: boolean;
  muted: boolean;
  speaking: boolean;
  camera: Picture | undefined;
  screen: Picture | undefined;
}

/** The way to the others. */
export interface Connection {
  phase: Phase;
  /** The city of the PoP in use or being tried. */
  place: string | undefined;
  /** Pictures still arrive although the phase is not `connected`. */
  mediaFlows: boolean;
  rttMs: number | undefined;
  quality: Quality;
  stats: ConnectionStats | undefined;
  reason: EndReason | undefined;
}

/** A call as the pages show it: a new value at each change. */
export interface CallSnapshot {
  room: string;
  connection: Connection;
  self: Person;
  others: Person[];
  local: LocalState;
  /** The sound to play. */
  voices: MediaStreamTrack[];
}

/** What a person can do in a call. */
export interface CallActions {
  setMicrophone(on: boolean): void;
  setCamera(on: boolean): void;
  setScreenShare(on: boolean): void;
  switchDevice(source: "microphone" | "camera", deviceId: string): void;
  setView(tiles: Tile[]): void;
  leave(): void;
}
