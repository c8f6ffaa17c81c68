import { useEffect, useRef } from "react";

import { cn } from "@/lib/utils";

interface VideoProps {
  media: MediaStreamTrack;
  /** As in a mirror, for our own camera. */
  mirrored?: boolean;
  /** Show all of it rather than fill the space. */
  whole?: boolean;
  className?: string;
}

/** Shows a track. A new track takes over with its first picture, so that the old one's last stays until then. */
export function Video({ media, mirrored = false, whole = false, className }: VideoProps) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const show = () => {
      const video = element.current;
      if (video === null) return;
      video.srcObject = new MediaStream([media]);
      // Refused only when the element is gone already: muted video may always play.
      video.play().catch(() => undefined);
    };
    if (!media.muted || element.current?.srcObject == null) show();
    media.addEventListener("unmute", show);
    return () => media.removeEventListener("unmute", show);
  }, [media]);

  // Chromium's player goes on after its element is gone, until the next garbage collection, and holds pictures of the
  // camera meanwhile: whoever came from the preview sent no picture for the first seconds of the call.
  useEffect(() => {
    const video = element.current;
    return () => {
      if (video !== null) video.srcObject = null;
    };
  }, []);

  return (
    <video
      ref={element}
      autoPlay
      playsInline
      muted
      className={cn("size-full", whole ? "object-contain" : "object-cover", mirrored && "-scale-x-100", className)}
    />
  );
}
