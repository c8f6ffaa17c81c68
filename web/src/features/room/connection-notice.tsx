import { LoaderCircle } from "lucide-react";

import type { Connection } from "@/features/call/call";

/** Says what is being done about a lost connection, above the faces; nothing while all is well. */
export function ConnectionNotice({ connection }: { connection: Connection }) {
  const words = wordsFor(connection);
  return (
    <div role="status" aria-live="polite" className="pointer-events-none absolute inset-x-0 top-4 z-20 flex justify-center px-4">
      {words !== undefined && (
        <div className="flex max-w-sm items-center gap-3.5 rounded-2xl bg-zinc-900 px-5 py-4 text-white shadow-xl ring-1 ring-white/10">
          <LoaderCircle aria-hidden className="size-5 shrink-0 animate-spin" />
          <div>
            <p className="font-medium">{words.title}</p>
            <p className="text-sm text-white/75">{words.detail}</p>
          </div>
        </div>
      )}
    </div>
  );
}

function wordsFor({ phase, place, mediaFlows }: Connection): { title: string; detail: string } | undefined {
  const where = place ?? "the nearest place";
  switch (phase) {
    case "connecting":
      return { title: "Connecting", detail: `Through ${where}.` };
    case "resuming":
      if (mediaFlows) return { title: "Reconnecting", detail: `You can still see and hear each other. Reaching ${where} again.` };
      return { title: "Reconnecting", detail: `The connection through ${where} was lost. Taking it up again.` };
    case "restarting":
      if (mediaFlows) return { title: "Moving the call", detail: `It goes on through ${where} in a moment.` };
      return { title: "Reconnecting", detail: `Trying ${where} instead.` };
    default:
      return undefined;
  }
}
