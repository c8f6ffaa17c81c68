import type { CaptureProblem, EndReason, Quality } from "@/sdk";

/** "Zurich, Switzerland" as people say it. */
export function cityOf(region: string): string {
  return region.split(",")[0]?.trim() ?? region;
}

export function milliseconds(ms: number): string {
  return `${Math.max(1, Math.round(ms))} ms`;
}

export const QUALITY_WORDS: Record<Quality, string> = {
  good: "Good connection",
  fair: "Fair connection",
  poor: "Poor connection",
  lost: "No connection",
};

export const PROBLEM_WORDS: Record<CaptureProblem, (device: string) => string> = {
  denied: (device) => `This page may not use your ${device}.`,
  not_found: (device) => `No ${device.replace(" and ", " or ")} was found.`,
  in_use: (device) => `Another program is using your ${device}.`,
  stopped: (device) => `Your ${device} stopped.`,
  not_available: (device) => `Your ${device} cannot be used here.`,
  cancelled: () => "",
};

export interface Ending {
  title: string;
  detail: string;
  rejoin: boolean;
}

export const ENDINGS: Record<EndReason, Ending> = {
  left: { title: "You left the call", detail: "", rejoin: true },
  removed: { title: "You were removed from the call", detail: "Someone in charge of the room ended your stay.", rejoin: false },
  replaced: { title: "You joined from somewhere else", detail: "This page gave way to your other one.", rejoin: true },
  unreachable: {
    // Also for whoever never had one.
    title: "There is no connection",
    detail: "None of our places could be reached. Check your internet connection, then join again.",
    rejoin: true,
  },
  media_blocked: {
    title: "Your network blocks calls",
    detail: "This page can reach us, but sound and picture cannot. Try another network.",
    rejoin: true,
  },
  room_full: { title: "The room is full", detail: "Try again when someone has left.", rejoin: true },
  rate_limited: { title: "Too many people are joining from your network", detail: "Try again in a minute.", rejoin: true },
  not_allowed: { title: "You cannot join this room", detail: "Ask whoever invited you for a new link.", rejoin: false },
  expired: { title: "Your invitation ran out", detail: "Join again to go on.", rejoin: true },
  outdated: { title: "This page is out of date", detail: "Reload it, then join again.", rejoin: true },
  fault: { title: "Something went wrong on our side", detail: "Join again. If it happens once more, try later.", rejoin: true },
};
