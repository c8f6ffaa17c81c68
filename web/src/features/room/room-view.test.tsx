import { fireEvent, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";

import { actions, call, person } from "@/testing/call";
import { accessibilityFaults, show } from "@/testing/page";

import { RoomView } from "./room-view";

const ANA = person("Ana");
const BEN = person("Ben", { muted: true });

describe("a call", () => {
  test("has its controls under the names people and tools rely on", async () => {
    const { container } = await show(<RoomView call={call([ANA, BEN])} actions={actions()} />);
    for (const name of ["Mute", "Turn camera on", "Participants", "Copy link", "Settings", "Leave"]) {
      expect(screen.getByRole("button", { name })).toBeDefined();
    }
    expect(await accessibilityFaults(container)).toEqual([]);
  });

  test("mutes and leaves by button", async () => {
    const does = actions();
    await show(<RoomView call={call([ANA])} actions={does} />);
    await userEvent.click(screen.getByRole("button", { name: "Mute" }));
    expect(does.setMicrophone).toHaveBeenCalledWith(false);
    await userEvent.click(screen.getByRole("button", { name: "Leave" }));
    expect(does.leave).toHaveBeenCalledOnce();
  });

  test("says where it goes through and how far that is, in words", async () => {
    await show(<RoomView call={call([ANA])} actions={actions()} />);
    expect(screen.getByRole("button", { name: "Connection: Zurich, 18 ms. Good connection" })).toBeDefined();
  });

  test("does not call a connection good before there is one", async () => {
    const connecting = { phase: "connecting", rttMs: undefined } as const;
    await show(<RoomView call={call([], {}, connecting)} actions={actions()} />);
    expect(screen.getByRole("button", { name: "Connection: Zurich. Connecting" })).toBeDefined();
  });

  test("says why a shared screen is not seen", async () => {
    const sharing = person("Ana", { screen: { track: "t", media: undefined, hidden: "unsupported" } });
    await show(<RoomView call={call([sharing])} actions={actions()} />);
    const shared = screen.getByRole("figure", { name: "Screen of Ana" });
    expect(within(shared).getByText(/this browser cannot show it/)).toBeDefined();
  });

  test("shows people in their order, ourselves last, and who is muted", async () => {
    await show(<RoomView call={call([ANA, BEN])} actions={actions()} />);
    const tiles = screen.getAllByRole("figure");
    expect(tiles.map((tile) => tile.getAttribute("aria-label"))).toEqual(["Ana", "Ben", "You"]);
    const ben = screen.getByRole("figure", { name: "Ben" });
    expect(within(ben).getByRole("img", { name: "Muted" })).toBeDefined();
  });

  test("lists who is here", async () => {
    await show(<RoomView call={call([ANA, BEN])} actions={actions()} />);
    await userEvent.click(screen.getByRole("button", { name: "Participants" }));
    const panel = screen.getByRole("region", { name: "Participants" });
    expect(within(panel).getAllByRole("listitem")).toHaveLength(3);
  });

  test("alone in a room, offers the link", async () => {
    await show(<RoomView call={call([])} actions={actions()} />);
    expect(screen.getByText(/You are the only one here/)).toBeDefined();
  });
});

describe("the keyboard", () => {
  test("mutes by M and turns the camera on by V", async () => {
    const does = actions();
    await show(<RoomView call={call([ANA])} actions={does} />);
    fireEvent.keyDown(document.body, { key: "m" });
    // As with caps lock.
    fireEvent.keyDown(document.body, { key: "V" });
    expect(does.setMicrophone).toHaveBeenCalledWith(false);
    expect(does.setCamera).toHaveBeenCalledWith(true);
  });

  test("speaks for as long as the space bar is held while muted", async () => {
    const does = actions();
    const muted = call([ANA]);
    const snapshot = { ...muted, local: { ...muted.local, microphone: { ...muted.local.microphone, on: false } } };
    await show(<RoomView call={snapshot} actions={does} />);
    fireEvent.keyDown(document.body, { key: " " });
    fireEvent.keyUp(document.body, { key: " " });
    expect(does.setMicrophone.mock.calls).toEqual([[true], [false]]);
  });

  test("leaves the space bar to a focused button", async () => {
    const does = actions();
    await show(<RoomView call={call([ANA])} actions={does} />);
    fireEvent.keyDown(screen.getByRole("button", { name: "Leave" }), { key: " " });
    expect(does.setMicrophone).not.toHaveBeenCalled();
  });
});

describe("a lost connection", () => {
  test("is said, with what is being tried", async () => {
    const lost = { phase: "restarting", place: "Panama", mediaFlows: false, quality: "lost" } as const;
    await show(<RoomView call={call([ANA], {}, lost)} actions={actions()} />);
    expect(screen.getByRole("status").textContent).toBe("ReconnectingTrying Panama instead.");
  });

  test("that costs no picture is said to cost none", async () => {
    await show(<RoomView call={call([ANA], {}, { phase: "resuming" })} actions={actions()} />);
    expect(screen.getByRole("status").textContent).toContain("You can still see and hear each other");
  });
});
