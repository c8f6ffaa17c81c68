import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";

import { newRoomName, isRoomName, roomFromInput } from "@/lib/room-name";
import { accessibilityFaults, services, show } from "@/testing/page";

import { StartPage } from "./start-page";

describe("the start page", () => {
  test("can be used without seeing it", async () => {
    const { container } = await show(<StartPage />);
    expect(screen.getByRole("button", { name: "New call" })).toBeDefined();
    expect(await accessibilityFaults(container)).toEqual([]);
  });

  test("says what is wrong with a room name", async () => {
    await show(<StartPage />);
    await userEvent.type(screen.getByLabelText("Room name or link"), "what/ever?");
    await userEvent.click(screen.getByRole("button", { name: "Join" }));
    expect(screen.getByText(/Use letters, digits and dashes/)).toBeDefined();
  });

  test("finds the nearest place by itself once the network is back", async () => {
    const given = services();
    const { environment } = given;
    const { onFetch } = environment;
    environment.onFetch = () => Promise.reject(new TypeError("offline"));
    await show(<StartPage />, given);
    await act(() => environment.pass(1000));
    expect(screen.getByText(/You seem to be offline/)).toBeDefined();
    environment.onFetch = onFetch;
    environment.changeNetwork();
    await act(() => environment.pass(1000));
    expect(screen.getByText(/Calls go through Zurich/)).toBeDefined();
  });

  test("offers emulated places to developers only", async () => {
    await show(<StartPage />);
    expect(screen.queryByRole("link", { name: "in Bogotá" })).toBeNull();
    await show(<StartPage />, services({ development: true }));
    expect(screen.getByRole("link", { name: "in Bogotá" }).getAttribute("href")).toBe("?as-if=bogota");
  });
});

describe("room names", () => {
  test("are found in links and in what people type", () => {
    expect(roomFromInput("https://zurich.example.org/r/team-sync?debug#x")).toBe("team-sync");
    expect(roomFromInput("  team sync ")).toBe("team-sync");
    expect(roomFromInput("../../etc")).toBeUndefined();
    expect(roomFromInput("")).toBeUndefined();
  });

  test("made here are valid and differ", () => {
    const names = Array.from({ length: 200 }, newRoomName);
    expect(names.every(isRoomName)).toBe(true);
    expect(new Set(names).size).toBe(200);
  });
});
