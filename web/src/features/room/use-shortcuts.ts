import { useEffect, useRef } from "react";

import type { CallActions, CallSnapshot } from "@/features/call/call";

/** M mutes, V is the camera, the space bar held down speaks while muted. Not while typing or on a button. */
export function useShortcuts(call: CallSnapshot, actions: CallActions): void {
  const latest = useRef({ call, actions });
  useEffect(() => {
    latest.current = { call, actions };
  });
  useEffect(() => {
    let speaking = false;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      const { microphone, camera } = latest.current.call.local;
      const key = event.key.toLowerCase();
      if (key === "m") latest.current.actions.setMicrophone(!microphone.on);
      else if (key === "v") latest.current.actions.setCamera(!camera.on);
      else if (key === " " && !isControl(event.target) && !microphone.on) {
        event.preventDefault();
        speaking = true;
        latest.current.actions.setMicrophone(true);
      }
    };
    const stop = (event: Event) => {
      if (!speaking || (event instanceof KeyboardEvent && event.key !== " ")) return;
      speaking = false;
      latest.current.actions.setMicrophone(false);
    };
    window.addEventListener("keydown", onKeyDown);
    window.addEventListener("keyup", stop);
    window.addEventListener("blur", stop);
    return () => {
      window.removeEventListener("keydown", onKeyDown);
      window.removeEventListener("keyup", stop);
      window.removeEventListener("blur", stop);
    };
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}

function isControl(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("button, a, [role=button], [role=option]") !== null;
}
