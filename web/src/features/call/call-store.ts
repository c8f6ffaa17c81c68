import type { Services } from "@/app/services";
import { cityOf } from "@/lib/words";
import {
  DoorRefusal,
  obtainGuestToken,
  publicationFor,
  Room,
  type EndReason,
  type GuestToken,
  type LocalParticipant,
  type PopEntry,
  type RemoteParticipant,
  type Tile,
} from "@/sdk";

import type { CallActions, CallSnapshot, Connection, Person, Picture } from "./call";

declare global {
  interface Window {
    /** For the console and for tests, on request only. */
    __isthmus?: { room: Room };
  }
}

/** A call from Join to its end, outside React: finds the PoP, gets a token, and turns the room into snapshots. */
export class CallStore implements CallActions {
  readonly #services: Services;
  readonly #roomName: string;
  readonly #name: string;
  readonly #local: LocalParticipant;
  readonly #listeners = new Set<() => void>();
  /** Aborted when the call ends without a room: nobody waits for a token any more. */
  readonly #joining = new AbortController();
  #room: Room | undefined;
  /** Why there never was a room. */
  #failure: EndReason | undefined;
  #snapshot: CallSnapshot;
  #refreshDue = false;

  constructor(services: Services, roomName: string, name: string, local: LocalParticipant) {
    this.#services = services;
    this.#roomName = roomName;
    this.#name = name;
    this.#local = local;
    this.#snapshot = this.#look();
  }

  /** Joins. What goes wrong ends the call with its reason; nothing is thrown. */
  async join(): Promise<void> {
    try {
      const { pops } = await this.#services.nearest.find();
      const guest = { room: this.#roomName, name: this.#name };
      const { token, pop } = await obtainGuestToken(this.#services.environment, pops, guest, this.#joining.signal);
      if (this.#failure !== undefined) return;
      // The door that gave the token is alive: the others follow in their order.
      this.#enter(token, [pop, ...pops.filter((other) => other !== pop)]);
    } catch (error) {
      this.#end(reasonOf(error));
    }
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = (): CallSnapshot => this.#snapshot;

  setMicrophone(on: boolean): void {
    void this.#local.setMicrophone(on);
  }

  setCamera(on: boolean): void {
    void this.#local.setCamera(on);
  }

  setScreenShare(on: boolean): void {
    void this.#local.setScreenShare(on);
  }

  switchDevice(source: "microphone" | "camera", deviceId: string): void {
    void this.#local.switchDevice(source, deviceId);
  }

  setView(tiles: Tile[]): void {
    this.#room?.setView(tiles);
  }

  leave(): void {
    if (this.#room === undefined) this.#end("left");
    else this.#room.leave();
  }

  #enter(token: GuestToken, pops: PopEntry[]): void {
    const room = new Room(this.#services.environment, {
      room: this.#roomName,
      name: this.#name,
      token,
      pops,
      rank: async (current) => (await this.#services.nearest.findAgain(current)).pops,
      local: this.#local,
    });
    this.#room = room;
    if (this.#services.debug) window.__isthmus = { room };
    room.on("changed", () => this.#refreshSoon());
    room.join();
  }

  #end(reason: EndReason): void {
    // What still fails after leaving is no news.
    this.#failure ??= reason;
    this.#joining.abort();
    this.#local.stop();
    this.#refreshSoon();
  }

  /** Many changes at a time become one snapshot. */
  #refreshSoon(): void {
    if (this.#refreshDue) return;
    this.#refreshDue = true;
    queueMicrotask(() => {
      this.#refreshDue = false;
      this.#snapshot = this.#look();
      for (const listener of this.#listeners) listener();
    });
  }

  #look(): CallSnapshot {
    const room = this.#room;
    const local = this.#local.state;
    const speaking = new Set(room?.speakers);
    return {
      room: this.#roomName,
      connection: this.#connection(),
      self: {
        key: "self",
        id: room?.self,
        name: this.#name,
        isSelf: true,
        muted: !local.microphone.on,
        speaking: local.microphone.on && room?.self !== undefined && speaking.has(room.self),
        camera: ownPicture(local.camera.track),
        screen: ownPicture(local.screen.track),
      },
      others: room?.participants.map((participant) => personOf(participant, speaking)) ?? [],
      local,
      voices: room?.voices ?? [],
    };
  }

  #connection(): Connection {
    const room = this.#room;
    const phase = this.#failure === undefined ? (room?.state.phase ?? "connecting") : "ended";
    const region = room?.pop?.region;
    const media = room?.state.media === "up" && (phase === "connected" || phase === "resuming");
    return {
      phase,
      place: region === undefined ? undefined : cityOf(region),
      mediaFlows: media || phase === "connected" || room?.state.held === true,
      rttMs: room?.stats?.rttMs,
      quality: room?.quality ?? "good",
      stats: room?.stats,
      reason: this.#failure ?? room?.state.reason,
    };
  }
}

function personOf(participant: RemoteParticipant, speaking: ReadonlySet<string>): Person {
  return {
    key: `place-${participant.place}`,
    id: participant.id,
    name: participant.name,
    isSelf: false,
    muted: publicationFor(participant, "microphone")?.muted ?? true,
    speaking: speaking.has(participant.id),
    camera: pictureOf(participant, "camera"),
    screen: pictureOf(participant, "screen"),
  };
}

function pictureOf(participant: RemoteParticipant, source: "camera" | "screen"): Picture | undefined {
  const publication = publicationFor(participant, source);
  if (publication === undefined || publication.muted) return undefined;
  return { track: publication.id, media: publication.mediaTrack, hidden: publication.slotState };
}

function ownPicture(media: MediaStreamTrack | undefined): Picture | undefined {
  return media && { track: undefined, media, hidden: "live" };
}

function reasonOf(error: unknown): EndReason {
  if (!(error instanceof DoorRefusal)) return "unreachable";
  switch (error.code) {
    case "room_full":
    case "rate_limited":
      return error.code;
    case "unauthorized":
    case "forbidden":
    case "origin_not_allowed":
      return "not_allowed";
    default:
      return "fault";
  }
}
