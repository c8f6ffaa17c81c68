import type { Picture } from "@/features/call/call";

/** Why a picture that someone sends is not seen; nothing while it is. A small tile has room for the first words only. */
export function PictureHint({ hidden }: { hidden: Picture["hidden"] }) {
  const words = wordsFor(hidden);
  if (words === undefined) return null;
  const [what, why] = words;
  return (
    <p className="absolute inset-x-2 top-2 mx-auto w-fit rounded-lg bg-black/55 px-2 py-1 text-center text-xs text-white/90">
      {what}
      <span className="sr-only @min-[16rem]:not-sr-only">{why}</span>
    </p>
  );
}

function wordsFor(hidden: Picture["hidden"]): [what: string, why: string] | undefined {
  switch (hidden) {
    case "paused":
      return ["Picture paused", ": the connection is slow"];
    case "unsupported":
      return ["No picture", ": this browser cannot show it"];
    default:
      return undefined;
  }
}
