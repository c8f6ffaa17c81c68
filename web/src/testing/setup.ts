import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

afterEach(() => {
  cleanup();
  localStorage.clear();
});

// What jsdom lacks and pages use.
globalThis.ResizeObserver ??= class implements ResizeObserver {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
};
globalThis.matchMedia ??= ((query: string) =>
  Object.assign(new EventTarget(), { matches: false, media: query })) as unknown as typeof matchMedia;
globalThis.MediaStream ??= class {} as typeof MediaStream;
HTMLMediaElement.prototype.play = () => Promise.resolve();
Element.prototype.getAnimations ??= () => [];
globalThis.scrollTo = () => undefined;
