import { describe, expect, test } from "vitest";

import { LocalParticipant } from "./local";
import type { ClientMessage, Code, Participant, PopEntry, ServerMessage } from "./protocol.gen";
import { Room, type RoomOptions } from "./room";
import { publicationFor } from "./roster";
import { popEntry } from "./testing/pop-entry";
import type { ScriptedSocket } from "./testing/world";
import { settled, World } from "./testing/world";

const ROUND_TRIP_MS = 20;

const POPS = [popEntry("zurich"), popEntry("panama")];

const ANA: Participant = {
  id: "p-ana",
  identity: "ana",
  name: "Ana",
  pop: "panama",
  tracks: [{ id: "p-ana.1", source: "camera", muted: false, rids: ["q", "h", "f"] }],
};

/** Doors that are up answer as a node would; packets arrive for as long as the PoP of the stay is up. */
class Cluster {
  readonly world = new World();
  readonly dead = new Set<string>();
  readonly room: Room;
  readonly phases: string[] = [];
  /** Why nodes refuse offers, if they do. */
  refusal: Code | undefined;
  #stays = 0;

  constructor(options: Partial<RoomOptions> = {}) {
    this.world.onSocket = (socket) => queueMicrotask(() => this.#answer(socket));
    this.room = new Room(this.world, {
      room: "demo",
      name: "Me",
      token: "t",
      pops: POPS,
      local: new LocalParticipant(undefined),
      ...options,
    });
    this.room.on("connectionStateChanged", ({ phase, pop }) => {
      const line = `${phase} ${pop ?? ""}`;
      if (this.phases.at(-1) !== line) this.phases.push(line);
    });
  }

  async run(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 50) {
      if (!this.dead.has("media")) for (const connection of this.world.peerConnections) connection.arrivals += 1;
      await this.world.pass(50);
    }
  }

  /** Everything of a PoP at once, as SIGKILL does it. */
  kill(pop: string): void {
    this.dead.add(pop);
    this.dead.add("media");
    for (const socket of this.world.sockets) if (popOf(socket) === pop) socket.drop();
  }

  killDoor(pop: string): void {
    this.dead.add(pop);
    for (const socket of this.world.sockets) if (popOf(socket) === pop) socket.drop();
  }

  #answer(socket: ScriptedSocket): void {
    if (this.dead.has(popOf(socket))) {
      socket.drop();
      return;
    }
    const original = socket.send.bind(socket);
    socket.send = (text) => {
      original(text);
      const message = socket.sent.at(-1);
      this.world.after(ROUND_TRIP_MS, () => message !== undefined && this.#reply(socket, message));
    };
    socket.accept();
  }

  #reply(socket: ScriptedSocket, message: ClientMessage): void {
    if (message.type === "hello") {
      this.#stays += message.resume === undefined ? 1 : 0;
      socket.deliver(this.#welcome(popOf(socket), message.resume !== undefined));
    }
    if (message.type === "offer" && !this.dead.has("answers")) {
      if (this.refusal === undefined) this.#takeOffer(socket, message.revision);
      else refuse(socket, message.revision, this.refusal);
    }
    if (message.type === "ping") socket.deliver({ type: "pong", id: message.id });
  }

  #takeOffer(socket: ScriptedSocket, revision: number): void {
    this.dead.delete("media");
    const slot = { track: "p-ana.1", participant: "p-ana", state: "live" } as const;
    socket.deliver({ type: "answer", revision, sdp: "answer" });
    socket.deliver({ type: "slots", slots: [{ mid: "5", content: slot }] });
    this.world.peerConnection.turnIce("connected");
  }

  #welcome(pop: string, resumed: boolean): ServerMessage {
    const participant = `p-me-${this.#stays}`;
    const node = `${pop}-sfu-1`;
    return { type: "welcome", version: 1, participant, pop, node, may_publish: true, participants: [ANA], resumed };
  }
}

function popOf(socket: ScriptedSocket): string {
  return new URL(socket.url).hostname.split(".")[0] ?? "";
}

function refuse(socket: ScriptedSocket, revision: number, code: Code): void {
  socket.deliver({ type: "error", code, detail: "No.", fatal: false, revision });
}

/** Shows a larger grid, which takes another offer. */
function enlarge(room: Room): void {
  room.setView(Array.from({ length: 6 }, (_, index) => ({ track: `t${index}`, height: 180 })));
}

async function joined(options: Partial<RoomOptions> = {}): Promise<Cluster> {
  const cluster = new Cluster(options);
  cluster.room.join();
  await cluster.run(3000);
  expect(cluster.phases).toEqual(["connecting zurich", "connected zurich"]);
  return cluster;
}

async function moving(): Promise<Cluster> {
  const cluster = await joined();
  cluster.world.socket.deliver({ type: "move", deadline_s: 60 });
  await cluster.run(100);
  expect(cluster.phases.at(-1)).toBe("connected panama");
  return cluster;
}

function pictureOf(cluster: Cluster): MediaStreamTrack | undefined {
  return cluster.room.participants[0]?.publications[0]?.mediaTrack;
}

/** What a connection receives on an m-line; on 5, the first video slot, by default. */
function slotOf(cluster: Cluster, connection: number, mid = 5): MediaStreamTrack | undefined {
  return cluster.world.peerConnections[connection]?.transceivers[mid]?.receiver.track;
}

describe("a room", () => {
  test("shows others in their slots with one offer, sent right behind the hello", async () => {
    const { world, room } = await joined();
    expect(world.socket.sent.slice(0, 2).map(({ type }) => type)).toEqual(["hello", "offer"]);
    expect(world.socket.sentOf("offer")).toHaveLength(1);
    const [ana] = room.participants;
    expect(ana && publicationFor(ana, "camera")?.mediaTrack).toBeDefined();
  });

  test("needs no offer for someone who joins, mutes and leaves", async () => {
    const { world, room } = await joined();
    world.socket.deliver({ type: "participant", participant: { ...ANA, id: "p-ben", tracks: [] } });
    world.socket.deliver({ type: "left", participant: "p-ben", reason: "left" });
    room.setView([{ track: "p-ana.1", height: 720 }]);
    await world.pass(100);
    expect(world.socket.sentOf("offer")).toHaveLength(1);
    expect(world.socket.sentOf("view")).toHaveLength(1);
  });

  test("offers more slots when the grid grows beyond them", async () => {
    const { world, room } = await joined();
    enlarge(room);
    await world.pass(100);
    expect(world.socket.sentOf("offer")).toHaveLength(2);
  });
});

describe("when a PoP is killed", () => {
  test("media is back through another within 3 s, as a stay that replaces the lost one", async () => {
    const cluster = await joined();
    const killedMs = cluster.world.now();
    cluster.kill("zurich");
    while (cluster.phases.at(-1) !== "connected panama" && cluster.world.now() < killedMs + 10_000) await cluster.run(50);
    expect(cluster.world.now() - killedMs).toBeLessThan(3000);
    expect(cluster.phases.slice(2)).toEqual(["resuming zurich", "restarting panama", "connected panama"]);
    expect(cluster.world.socket.sentOf("hello")[0]?.replaces).toBe("p-me-1");
    expect(cluster.world.peerConnections[0]?.signalingState).toBe("closed");
  });

  test("the last pictures stay until there are new ones", async () => {
    const cluster = await joined();
    const before = cluster.room.participants[0]?.publications[0]?.mediaTrack;
    cluster.dead.add("panama");
    cluster.kill("zurich");
    await cluster.run(2000);
    expect(cluster.room.participants[0]?.publications[0]?.mediaTrack).toBe(before);
    cluster.dead.delete("panama");
    await cluster.run(10_000);
    const after = cluster.room.participants[0]?.publications[0]?.mediaTrack;
    expect(after).toBeDefined();
    expect(after).not.toBe(before);
  });
});

describe("a move to another PoP", () => {
  test("shows the stay before until its node ends it: by then the next has its pictures", async () => {
    const cluster = await moving();
    await cluster.run(1000);
    expect(pictureOf(cluster)).toBe(slotOf(cluster, 0));
    expect(cluster.room.voices[0]).toBe(slotOf(cluster, 0, 2));
    cluster.world.sockets[0]?.deliver({ type: "ended", reason: "replaced" });
    cluster.world.sockets[0]?.drop();
    expect(cluster.room.state).toMatchObject({ phase: "connected", pop: "panama" });
    expect(pictureOf(cluster)).toBe(slotOf(cluster, 1));
    expect(cluster.world.peerConnections[0]?.signalingState).toBe("closed");
  });

  test("does not depend on the word of a node that says nothing", async () => {
    const cluster = await moving();
    await cluster.run(2000);
    expect(pictureOf(cluster)).toBe(slotOf(cluster, 1));
  });

  test("that is lost again goes on from where it came", async () => {
    const cluster = await moving();
    cluster.killDoor("panama");
    await cluster.run(500);
    cluster.dead.delete("panama");
    await cluster.run(5000);
    expect(cluster.phases.slice(-2)).toEqual(["resuming panama", "connected panama"]);
    expect(cluster.world.socket.sentOf("hello")[0]?.resume).toEqual({ participant: "p-me-2", node: "panama-sfu-1" });
  });

  test("says whose place it takes: that of the stay the others see", async () => {
    const cluster = await joined();
    // The nodes elsewhere welcome and never answer an offer.
    cluster.dead.add("answers");
    cluster.world.socket.deliver({ type: "move", deadline_s: 60 });
    await cluster.run(20_000);
    const hellos = cluster.world.sockets.slice(1).flatMap((socket) => socket.sentOf("hello"));
    expect(hellos.length).toBeGreaterThan(1);
    expect(new Set(hellos.map(({ replaces }) => replaces))).toEqual(new Set(["p-me-1"]));
  });

  test("of somebody else changes nothing of their picture", async () => {
    const cluster = await joined();
    const before = pictureOf(cluster);
    const tracks = [{ id: "p-ana-2.1", source: "camera", muted: false, rids: ["q", "h", "f"] } as const];
    const participant: Participant = { ...ANA, id: "p-ana-2", tracks: tracks.map((track) => ({ ...track, rids: [...track.rids] })) };
    cluster.world.socket.deliver({ type: "participant", participant, replaces: "p-ana" });
    expect(cluster.room.participants.map(({ id }) => id)).toEqual(["p-ana-2"]);
    expect(pictureOf(cluster)).toBe(before);
  });
});

describe("when only a door is killed", () => {
  test("media goes on through the same peer connection, and signalling comes back by itself", async () => {
    const cluster = await joined();
    cluster.killDoor("zurich");
    await cluster.run(2000);
    expect(cluster.room.state.phase).toBe("resuming");
    cluster.dead.delete("zurich");
    await cluster.run(5000);
    expect(cluster.phases.slice(2)).toEqual(["resuming zurich", "connected zurich"]);
    expect(cluster.world.peerConnections).toHaveLength(1);
    expect(cluster.world.socket.sentOf("hello")[0]?.resume).toEqual({ participant: "p-me-1", node: "zurich-sfu-1" });
  });

  test("a mute in between is said when signalling is back", async () => {
    const cluster = await joined();
    cluster.killDoor("zurich");
    await cluster.run(500);
    cluster.dead.delete("zurich");
    await cluster.run(5000);
    expect(cluster.world.socket.sentOf("mute").map(({ muted }) => muted)).toEqual([true, true]);
  });
});

/** In a call; whoever is asked for a ranking answers when the test says. */
async function asking() {
  const answers: ((pops: PopEntry[]) => void)[] = [];
  const cluster = await joined({ rank: () => new Promise((resolve) => answers.push(resolve)) });
  return { cluster, answers };
}

describe("another network", () => {
  const [ZURICH, PANAMA] = POPS as [PopEntry, PopEntry];
  const SINGAPORE: PopEntry = { ...ZURICH, id: "singapore", region: "singapore", url: "https://singapore.example.org" };

  test("moves the call to a PoP that is better there, and its entry is known", async () => {
    const cluster = await joined({ rank: async () => [SINGAPORE, PANAMA] });
    const before = cluster.room.participants[0]?.publications[0]?.mediaTrack;
    cluster.world.changeNetwork();
    await settled();
    expect(cluster.world.peerConnections[0]?.iceRestarts).toBe(1);
    expect(cluster.phases.slice(2)).toEqual(["restarting singapore"]);
    expect(cluster.room.participants[0]?.publications[0]?.mediaTrack).toBe(before);
    await cluster.run(1000);
    expect(cluster.phases.at(-1)).toBe("connected singapore");
    expect(cluster.room.pop).toBe(SINGAPORE);
    expect(cluster.world.socket.sentOf("hello")[0]?.replaces).toBe("p-me-1");
  });

  test("leaves the call where it is while that is best, and says what to try next", async () => {
    const asked: string[] = [];
    const rank = async (current: string) => {
      asked.push(current);
      return [{ ...ZURICH, rtt_ms: 25 }, SINGAPORE, PANAMA];
    };
    const cluster = await joined({ rank });
    cluster.world.changeNetwork();
    await cluster.run(1000);
    expect(asked).toEqual(["zurich"]);
    expect(cluster.phases).toHaveLength(2);
    expect(cluster.room.pop?.rtt_ms).toBe(25);
    cluster.kill("zurich");
    await cluster.run(5000);
    expect(cluster.phases.at(-1)).toBe("connected singapore");
  });

  test("found while a socket is lost says what to try if it stays lost", async () => {
    const cluster = await joined({ rank: async () => [SINGAPORE] });
    cluster.killDoor("zurich");
    await cluster.run(100);
    cluster.world.changeNetwork();
    await cluster.run(1000);
    expect(cluster.phases.slice(2)).toEqual(["resuming zurich"]);
    expect(cluster.room.pop).toBe(ZURICH);
    cluster.kill("zurich");
    await cluster.run(5000);
    expect(cluster.phases.at(-1)).toBe("connected singapore");
  });

  test("leaves the call where it is when nobody can say what is best, until somebody can", async () => {
    let offline = true;
    const rank = async () => {
      if (offline) throw new TypeError("offline");
      return [SINGAPORE];
    };
    const cluster = await joined({ rank });
    cluster.world.changeNetwork();
    await cluster.run(1000);
    expect(cluster.phases).toHaveLength(2);
    offline = false;
    cluster.world.changeNetwork();
    await cluster.run(1000);
    expect(cluster.phases.at(-1)).toBe("connected singapore");
  });

  test("is asked about once at a time; what was said of the one before it does not count", async () => {
    const { cluster, answers } = await asking();
    for (let change = 0; change < 3; change += 1) cluster.world.changeNetwork();
    expect(answers).toHaveLength(1);
    answers[0]?.([PANAMA, ZURICH]);
    await cluster.run(1000);
    expect(cluster.phases).toHaveLength(2);
    expect(answers).toHaveLength(2);
    answers[1]?.([SINGAPORE, ZURICH]);
    await cluster.run(1000);
    expect(cluster.phases.at(-1)).toBe("connected singapore");
    expect(answers).toHaveLength(2);
  });

  test("does not bring the call back to the PoP that it has left while nobody had answered", async () => {
    const { cluster, answers } = await asking();
    cluster.world.changeNetwork();
    cluster.world.socket.deliver({ type: "move", deadline_s: 60 });
    await cluster.run(1000);
    expect(cluster.phases.at(-1)).toBe("connected panama");
    answers[0]?.([ZURICH, PANAMA]);
    await cluster.run(1000);
    expect(cluster.phases.at(-1)).toBe("connected panama");
  });

  test("is of no concern after the end", async () => {
    const { cluster, answers } = await asking();
    cluster.world.changeNetwork();
    cluster.world.changeNetwork();
    cluster.room.leave();
    answers[0]?.([PANAMA, ZURICH]);
    await cluster.run(1000);
    expect(answers).toHaveLength(1);
    expect(cluster.world.peerConnections).toHaveLength(1);
  });
});

describe("a guest's token", () => {
  const FIRST = { room: "demo", token: "first", expires_in_s: 60 };

  /** What the doors were asked for, each with another token to give. */
  function renewals({ world }: Cluster): string[] {
    const asked: string[] = [];
    world.onFetch = async (url) => {
      asked.push(url);
      return Response.json({ ...FIRST, token: `renewed-${asked.length}` });
    };
    return asked;
  }

  test("is renewed at the PoP in use, and the newest opens every new socket", async () => {
    const cluster = await joined({ token: FIRST });
    const asked = renewals(cluster);
    await cluster.run(30_000);
    cluster.killDoor("zurich");
    cluster.dead.delete("zurich");
    await cluster.run(2000);
    expect(cluster.phases.at(-1)).toBe("connected zurich");
    expect(cluster.world.socket.protocols).toContain("isthmus.token.renewed-1");
    cluster.kill("zurich");
    await cluster.run(30_000);
    expect(cluster.phases.at(-1)).toBe("connected panama");
    expect(cluster.world.socket.protocols).toContain("isthmus.token.renewed-1");
    expect(asked).toEqual(["zurich", "panama"].map((pop) => `https://${pop}.example.org/v1/rooms/demo/guests`));
  });

  test("is renewed no more once the call is over", async () => {
    const cluster = await joined({ token: FIRST });
    const asked = renewals(cluster);
    cluster.room.leave();
    await cluster.run(60_000);
    expect(asked).toEqual([]);
  });
});

/** In a call, with an offer that was refused a moment ago. */
async function refused(code: Code): Promise<Cluster> {
  const cluster = await joined();
  cluster.refusal = code;
  enlarge(cluster.room);
  await cluster.run(100);
  return cluster;
}

describe("a refused offer", () => {
  test("that came too soon is sent again 2 s later", async () => {
    const cluster = await refused("rate_limited");
    cluster.refusal = undefined;
    await cluster.run(1800);
    expect(cluster.world.socket.sentOf("offer").map(({ revision }) => revision)).toEqual([1, 2]);
    await cluster.run(200);
    const offers = cluster.world.socket.sentOf("offer");
    expect(offers.map(({ revision, sdp }) => [revision, sdp])).toEqual([[1, "offer 1"], [2, "offer 2"], [3, "offer 2"]]);
    await cluster.run(5000);
    expect(cluster.world.peerConnection.signalingState).toBe("stable");
    expect(cluster.phases).toHaveLength(2);
  });

  test("that another socket has carried meanwhile is not sent a third time", async () => {
    const cluster = await refused("rate_limited");
    cluster.killDoor("zurich");
    cluster.dead.delete("zurich");
    await cluster.run(1000);
    expect(cluster.world.socket.sentOf("offer").map(({ revision }) => revision)).toEqual([3]);
    await cluster.run(1200);
    expect(cluster.world.socket.sentOf("offer").map(({ revision }) => revision)).toEqual([3]);
  });

  test("is made good by a new stay on the same PoP; the last pictures stay until it has its own", async () => {
    const cluster = await joined();
    const before = cluster.room.participants[0]?.publications[0]?.mediaTrack;
    enlarge(cluster.room);
    await cluster.world.pass(0);
    refuse(cluster.world.socket, 2, "invalid_sdp");
    expect(cluster.room.participants[0]?.publications[0]?.mediaTrack).toBe(before);
    await cluster.run(3000);
    expect(cluster.phases.slice(2)).toEqual(["restarting zurich", "connected zurich"]);
    expect(cluster.world.socket.sentOf("hello")[0]?.replaces).toBe("p-me-1");
    expect(cluster.world.peerConnections.map(({ signalingState }) => signalingState)).toEqual(["closed", "stable"]);
  });

  test("that is refused to the new stay too ends the call: it would be the same for ever", async () => {
    const cluster = await refused("invalid_sdp");
    await cluster.run(10_000);
    expect(cluster.room.state).toMatchObject({ phase: "ended", reason: "fault" });
    expect(cluster.world.peerConnections).toHaveLength(2);
  });

  test("that was answered or sent again is of no concern any more", async () => {
    const cluster = await joined();
    refuse(cluster.world.socket, 1, "invalid_sdp");
    await cluster.run(5000);
    expect(cluster.phases).toHaveLength(2);
  });
});

describe("the end", () => {
  test("comes with its reason and gives everything back", async () => {
    const cluster = await joined();
    cluster.world.socket.deliver({ type: "ended", reason: "removed" });
    expect(cluster.room.state).toMatchObject({ phase: "ended", reason: "removed" });
    expect(cluster.world.peerConnection.signalingState).toBe("closed");
    expect(cluster.world.socket.closedByClient).toBe(true);
  });

  test("by leaving says so to the node", async () => {
    const cluster = await joined();
    const { socket } = cluster.world;
    cluster.room.leave();
    expect(socket.sent.at(-1)).toEqual({ type: "leave" });
    expect(cluster.room.state.reason).toBe("left");
  });

  test("by leaving in the middle of a move says so to the node that is left behind", async () => {
    const cluster = await joined();
    const { socket } = cluster.world;
    cluster.dead.add("panama");
    cluster.world.onSocket = () => undefined;
    socket.deliver({ type: "move", deadline_s: 60 });
    await cluster.run(100);
    expect(cluster.phases.at(-1)).toBe("restarting panama");
    cluster.room.leave();
    expect(socket.sent.at(-1)).toEqual({ type: "leave" });
  });
});
