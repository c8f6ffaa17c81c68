import { describe, expect, test } from "vitest";

import type { ServerMessage, Welcome } from "./protocol.gen";
import { PING_INTERVAL_MS, PONG_TIMEOUT_MS, Signalling, WELCOME_TIMEOUT_MS, type Closed } from "./signalling";
import { World } from "./testing/world";

const WELCOME: { type: "welcome" } & Welcome = {
  type: "welcome",
  version: 1,
  participant: "p-1",
  pop: "zurich",
  node: "zurich-sfu-1",
  may_publish: true,
  participants: [],
  resumed: false,
};

function start() {
  const world = new World();
  const closed: Closed[] = [];
  const messages: ServerMessage[] = [];
  const signalling = new Signalling(
    world,
    { door: "https://zurich.example.org", token: "t.o.k", hello: { room: "demo", name: "Ana" } },
    { opened: () => undefined, message: (message) => messages.push(message), closed: (end) => closed.push(end) },
  );
  return { world, socket: world.socket, signalling, closed, messages };
}

describe("a socket", () => {
  test("offers its token as a subprotocol, never in the address, and greets", () => {
    const { socket } = start();
    expect(socket.url).toBe("wss://zurich.example.org/v1/signal");
    expect(socket.protocols).toEqual(["isthmus.v1", "isthmus.token.t.o.k"]);
    socket.accept();
    expect(socket.sent).toEqual([{ type: "hello", version: 1, room: "demo", name: "Ana" }]);
  });

  test("that closes before the welcome was out of reach", () => {
    const { socket, closed } = start();
    socket.drop();
    expect(closed).toEqual([{ kind: "unreachable" }]);
  });

  test("that opens and stays silent is given up", async () => {
    const { world, socket, closed } = start();
    socket.accept();
    await world.pass(WELCOME_TIMEOUT_MS - 1);
    expect(closed).toEqual([]);
    await world.pass(1);
    expect(closed).toEqual([{ kind: "unreachable" }]);
    expect(socket.closedByClient).toBe(true);
  });

  test("that stood and closes is lost, once", () => {
    const { socket, closed } = start();
    socket.accept();
    socket.deliver(WELCOME);
    socket.drop();
    socket.drop();
    expect(closed).toEqual([{ kind: "lost" }]);
  });

  test("without an answer to a ping is lost", async () => {
    const { world, socket, closed } = start();
    socket.accept();
    socket.deliver(WELCOME);
    socket.deliver({ type: "pong", id: 1 });
    await world.pass(PING_INTERVAL_MS);
    expect(socket.sentOf("ping").map((ping) => ping.id)).toEqual([1, 2]);
    await world.pass(PONG_TIMEOUT_MS);
    expect(closed).toEqual([{ kind: "lost" }]);
  });

  test("with answers stands for as long as they come", async () => {
    const { world, socket, closed } = start();
    socket.accept();
    socket.deliver(WELCOME);
    for (let id = 1; id <= 20; id += 1) {
      socket.deliver({ type: "pong", id });
      await world.pass(PING_INTERVAL_MS);
    }
    expect(closed).toEqual([]);
  });

  test("refused with a fatal error says why; one that is not fatal is a message", () => {
    const { socket, closed, messages } = start();
    socket.accept();
    socket.deliver({ type: "error", code: "rate_limited", detail: "Slower.", fatal: false });
    expect(messages).toHaveLength(1);
    socket.deliver({ type: "error", code: "room_full", detail: "Full.", fatal: true });
    expect(closed).toEqual([{ kind: "refused", code: "room_full", detail: "Full." }]);
  });

  test("outlives what it cannot read", () => {
    const { socket, closed, messages } = start();
    socket.accept();
    for (const text of ["", "{", "null", "[]", "7", '"welcome"', '{"kind":"welcome"}']) socket.deliverText(text);
    socket.deliver(WELCOME);
    expect(messages).toEqual([WELCOME]);
    expect(closed).toEqual([]);
  });

  test("closed by us says nothing more", async () => {
    const { world, socket, signalling, closed } = start();
    socket.accept();
    socket.deliver(WELCOME);
    signalling.close();
    socket.drop();
    await world.pass(60_000);
    expect(closed).toEqual([]);
  });
});
