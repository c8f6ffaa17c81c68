import { Volume2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { Button } from "@/components/ui/button";

/** Plays the voices. A browser that wants a click first is given one. */
export function Voices({ tracks }: { tracks: readonly MediaStreamTrack[] }) {
  const [blocked, setBlocked] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const retry = () => {
    setBlocked(false);
    setAttempt((count) => count + 1);
  };
  return (
    <>
      {tracks.map((track) => (
        <Voice key={track.id} track={track} attempt={attempt} onBlocked={() => setBlocked(true)} />
      ))}
      {blocked && (
        <Button className="absolute top-20 left-1/2 z-20 -translate-x-1/2" onClick={retry}>
          <Volume2 /> Turn sound on
        </Button>
      )}
    </>
  );
}

function Voice({ track, attempt, onBlocked }: { track: MediaStreamTrack; attempt: number; onBlocked: () => void }) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = new MediaStream([track]);
  }, [track]);
  useEffect(() => {
    element.current?.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "NotAllowedError") onBlocked();
    });
    // Only a new track or the person's click is a reason to try again.
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [track, attempt]);
  // There is nothing to caption: it is people speaking now.
  // oxlint-disable-next-line jsx-a11y/media-has-caption
  return <audio ref={element} autoPlay />;
}
