import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";

import type { ServerMessage } from "@/sdk/protocol.gen";
import { scriptedTrack } from "@/sdk/testing/peer-connection";
import type { World } from "@/sdk/testing/world";
import { accessibilityFaults, services, show } from "@/testing/page";

import { CallPage } from "./call-page";

const WELCOME: ServerMessage = {
  type: "welcome",
  version: 1,
  participant: "p-me",
  pop: "zurich",
  node: "zurich-sfu-1",
  may_publish: true,
  resumed: false,
  participants: [{ id: "p-ana", identity: "ana", name: "Ana", pop: "panama", tracks: [] }],
};

/** Devices that have a problem, all of them or those of one kind. */
function allowDevices(world: World, problem?: string, troubled?: "audio" | "video"): void {
  world.mediaDevices = {
    getUserMedia: async ({ audio, video }: MediaStreamConstraints = {}) => {
      const concerned = troubled === undefined || (troubled === "audio" ? audio : video);
      if (problem !== undefined && concerned) throw new DOMException("no", problem);
      const tracks = [...(audio ? [scriptedTrack("audio")] : []), ...(video ? [scriptedTrack("video")] : [])];
      return {
        getTracks: () => tracks,
        getAudioTracks: () => tracks.filter(({ kind }) => kind === "audio"),
        getVideoTracks: () => tracks.filter(({ kind }) => kind === "video"),
      } as MediaStream;
    },
    getDisplayMedia: () => Promise.reject(new DOMException("no", "NotAllowedError")),
    enumerateDevices: async () => [],
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  };
}

async function open(problem?: string, troubled?: "audio" | "video") {
  const given = services();
  allowDevices(given.environment, problem, troubled);
  const page = await show(<CallPage room="demo" />, given);
  await act(() => given.environment.pass(100));
  return { world: given.environment, container: page.container };
}

async function join(world: World) {
  await userEvent.type(screen.getByLabelText("Your name"), "Maya");
  await userEvent.click(screen.getByRole("button", { name: "Join" }));
  await act(() => world.pass(100));
  await act(async () => {
    world.socket.accept();
    world.socket.deliver(WELCOME);
    await world.pass(10);
    world.socket.deliver({ type: "answer", revision: 1, sdp: "answer" });
    world.peerConnection.turnIce("connected");
    await world.pass(10);
  });
}

describe("a call", () => {
  test("asks for the nearest place again on another network, and says where it is", async () => {
    const { world } = await open();
    await join(world);
    const asked: string[] = [];
    const answer = world.onFetch;
    world.onFetch = (url, init) => {
      asked.push(url);
      return answer(url, init);
    };
    await act(async () => {
      world.changeNetwork();
      await world.pass(100);
    });
    expect(asked.filter((url) => url.includes("/v1/pops"))).toEqual(["https://zurich.example.org/v1/pops?current=zurich"]);
    expect(screen.getByRole("figure", { name: "Ana" })).toBeDefined();
  });
});

describe("a room's link", () => {
  test("leads to the preview, and from there into the call and out again", async () => {
    const { world, container } = await open();
    expect(await accessibilityFaults(container)).toEqual([]);
    expect(screen.getByRole("button", { name: "Join" })).toHaveProperty("disabled", true);
    await join(world);
    expect(screen.getByRole("figure", { name: "Ana" })).toBeDefined();
    expect(world.socket.sentOf("hello")[0]).toMatchObject({ room: "demo", name: "Maya" });
    expect(world.socket.sentOf("offer")[0]?.tracks.map(({ source, muted }) => [source, muted])).toEqual([
      ["microphone", false],
      ["camera", false],
    ]);
    await userEvent.click(screen.getByRole("button", { name: "Leave" }));
    expect(await screen.findByRole("heading", { name: "You left the call" })).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "Rejoin" }));
    expect(await screen.findByLabelText("Your name")).toHaveProperty("value", "Maya");
  });

  test("helps when permission was denied, and lets people in all the same", async () => {
    const { world } = await open("NotAllowedError");
    expect(screen.getByRole("alert").textContent).toContain("may not use your microphone and camera");
    await join(world);
    expect(world.socket.sentOf("offer")[0]?.tracks.map(({ muted }) => muted)).toEqual([true, true]);
    expect(screen.getByRole("button", { name: "Unmute" })).toBeDefined();
  });

  test("helps when there is no camera or microphone", async () => {
    await open("NotFoundError");
    expect(screen.getByRole("alert").textContent).toContain("No microphone or camera was found");
    expect(screen.getByRole("alert").textContent).toContain("just listen");
  });

  test("does not send whoever has only a microphone into the call just to listen", async () => {
    await open("NotFoundError", "video");
    expect(screen.getByRole("alert").textContent).toContain("No camera was found");
    expect(screen.getByRole("alert").textContent).not.toContain("just listen");
  });

  test("ends with the reason when the door refuses", async () => {
    const { world } = await open();
    await userEvent.type(screen.getByLabelText("Your name"), "Maya");
    await userEvent.click(screen.getByRole("button", { name: "Join" }));
    await act(() => world.pass(100));
    await act(async () => {
      world.socket.accept();
      world.socket.deliver({ type: "error", code: "room_full", detail: "Full.", fatal: true });
      await world.pass(10);
    });
    expect(screen.getByRole("heading", { name: "The room is full" })).toBeDefined();
  });

  test("goes on connecting while every door is asked too often, and in the end says so", async () => {
    const { world, asked } = await crowd();
    expect(asked).toHaveLength(1);
    expect(screen.getByRole("button", { name: "Leave" })).toBeDefined();
    await act(() => world.pass(20_000));
    expect(screen.getByRole("heading", { name: "Too many people are joining from your network" })).toBeDefined();
    expect(screen.getByRole("button", { name: "Rejoin" })).toBeDefined();
  });

  test("can be left while every door is asked too often", async () => {
    const { world, asked } = await crowd();
    await userEvent.click(screen.getByRole("button", { name: "Leave" }));
    await act(() => world.pass(60_000));
    expect(screen.getByRole("heading", { name: "You left the call" })).toBeDefined();
    expect(asked).toHaveLength(1);
  });
});

/** Someone joins where too many do; the requests for a token as they come. */
async function crowd() {
  const { world } = await open();
  const asked: string[] = [];
  const answer = world.onFetch;
  world.onFetch = async (url, init) => {
    if (!url.includes("/guests")) return await answer(url, init);
    asked.push(url);
    const limited = { code: "rate_limited", status: 429, detail: "Slower." };
    return Response.json(limited, { status: 429, headers: { "retry-after": "8" } });
  };
  await userEvent.type(screen.getByLabelText("Your name"), "Maya");
  await userEvent.click(screen.getByRole("button", { name: "Join" }));
  await act(() => world.pass(100));
  return { world, asked };
}
