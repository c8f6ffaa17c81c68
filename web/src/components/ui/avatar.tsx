import { cn } from "@/lib/utils";
import { hueOf, initialsOf } from "@/lib/tone";

interface AvatarProps {
  name: string;
  className?: string;
}

/** A person without a picture: initials on a tone of their own. Its size is the caller's; letters follow it. */
function Avatar({ name, className }: AvatarProps) {
  return (
    <div
      data-slot="avatar"
      aria-hidden
      style={{ backgroundColor: `oklch(0.47 0.09 ${hueOf(name)})` }}
      className={cn("@container grid aspect-square shrink-0 place-items-center rounded-full text-white", className)}
    >
      <span className="text-[38cqw] leading-none font-medium">{initialsOf(name)}</span>
    </div>
  );
}

export { Avatar };
