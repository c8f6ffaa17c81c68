/** What this browser remembers. Storage may be blocked or full: then it remembers nothing, and all else works. */
const KEYS = {
  name: "isthmus.name",
  theme: "isthmus.theme",
  microphone: "isthmus.microphone",
  camera: "isthmus.camera",
  doors: "isthmus.doors",
} as const;

export type StoredKey = keyof typeof KEYS;

export function stored(key: StoredKey): string | undefined {
  try {
    return localStorage.getItem(KEYS[key]) ?? undefined;
  } catch {
    return undefined;
  }
}

export function store(key: StoredKey, value: string): void {
  try {
    localStorage.setItem(KEYS[key], value);
  } catch {
    // Nothing depends on it.
  }
}
