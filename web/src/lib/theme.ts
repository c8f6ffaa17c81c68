import { useSyncExternalStore } from "react";

import { store, stored } from "./stored";

export type Theme = "system" | "light" | "dark";

const listeners = new Set<() => void>();
let theme: Theme = read();

function read(): Theme {
  const value = stored("theme");
  return value === "light" || value === "dark" ? value : "system";
}

/** Puts the person's choice on the page; called before the first paint. */
export function applyTheme(): void {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = theme;
}

export function setTheme(next: Theme): void {
  theme = next;
  store("theme", next);
  applyTheme();
  for (const listener of listeners) listener();
}

export function useTheme(): Theme {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => theme,
  );
}
