import { vi } from "vitest";

import type { CallActions, CallSnapshot, Connection, Person } from "@/features/call/call";

const OFF = { track: undefined, on: false, problem: undefined };

export function person(name: string, changes: Partial<Person> = {}): Person {
  return { key: name, id: name, name, isSelf: false, muted: false, speaking: false, camera: undefined, screen: undefined, ...changes };
}

export function call(others: Person[], changes: Partial<CallSnapshot> = {}, connection: Partial<Connection> = {}): CallSnapshot {
  return {
    room: "demo",
    connection: {
      phase: "connected",
      place: "Zurich",
      mediaFlows: true,
      rttMs: 18.4,
      quality: "good",
      stats: undefined,
      reason: undefined,
      ...connection,
    },
    self: person("Me", { key: "self", isSelf: true }),
    others,
    local: { microphone: { ...OFF, on: true }, camera: OFF, screen: OFF, screen_audio: OFF },
    voices: [],
    ...changes,
  };
}

export function actions() {
  return {
    setMicrophone: vi.fn<CallActions["setMicrophone"]>(),
    setCamera: vi.fn<CallActions["setCamera"]>(),
    setScreenShare: vi.fn<CallActions["setScreenShare"]>(),
    switchDevice: vi.fn<CallActions["switchDevice"]>(),
    setView: vi.fn<CallActions["setView"]>(),
    leave: vi.fn<CallActions["leave"]>(),
  };
}
