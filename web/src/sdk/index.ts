export { CaptureError, listDevices, type CaptureProblem } from "./capture";
export { discover, type Discovery, type ProbedPop } from "./discovery";
export { DoorRefusal, type Guest } from "./doors";
export { browserEnvironment, type Environment } from "./environment";
export { LocalParticipant, type LocalSource, type LocalState } from "./local";
export type { EndReason, Phase, ReconnectState } from "./reconnect";
export { Room, type RoomEvents, type RoomOptions } from "./room";
export { obtainGuestToken, type Grant } from "./room-token";
export { publicationFor, type RemoteParticipant, type RemoteTrackPublication } from "./roster";
export type { ConnectionStats, Quality } from "./stats";
export {
  MAX_NAME_CHARS,
  type GuestToken,
  type ParticipantId,
  type PopEntry,
  type PopId,
  type Source,
  type Tile,
  type TrackId,
} from "./protocol.gen";
