import { Mic, MicOff, Video as VideoOn, VideoOff } from "lucide-react";

import { Avatar } from "@/components/ui/avatar";
import { Button } from "@/components/ui/button";
import { Video } from "@/features/room/video";
import { cn } from "@/lib/utils";
import type { LocalParticipant, LocalState } from "@/sdk";

import { LevelMeter } from "./level-meter";

interface PreviewPictureProps {
  name: string;
  state: LocalState;
  local: LocalParticipant;
}

/** How others will see us, with the two switches that matter. */
export function PreviewPicture({ name, state, local }: PreviewPictureProps) {
  const { microphone, camera } = state;
  return (
    <div
      className={cn(
        "relative isolate aspect-video max-h-[40dvh] w-full overflow-hidden rounded-2xl bg-zinc-800 text-white lg:max-h-none",
        // On a phone a taller one, so that the buttons do not cover the face; without a face there is help to make room for.
        camera.problem === undefined && "aspect-4/3 sm:aspect-video",
      )}
    >
      {camera.track === undefined ? (
        <div className="grid size-full place-content-center justify-items-center gap-2 pb-16">
          <Avatar name={name || "?"} className="w-16 sm:w-24" />
          <p className="text-sm text-white/75">Your camera is off</p>
        </div>
      ) : (
        // A hair larger than its frame, whose height is seldom a whole number of pixels.
        <Video media={camera.track} mirrored className="absolute -inset-px size-[calc(100%+2px)] max-w-none" />
      )}
      <div className="absolute inset-x-0 bottom-0 flex items-center justify-center gap-3 p-4">
        <Button
          variant={microphone.on ? "stage" : "stageOff"}
          size="round"
          className={microphone.on ? "bg-black/50 backdrop-blur-sm hover:bg-black/65" : ""}
          aria-label={microphone.on ? "Mute" : "Unmute"}
          onClick={() => void local.setMicrophone(!microphone.on)}
        >
          {microphone.on ? <Mic /> : <MicOff />}
        </Button>
        <Button
          variant={camera.on ? "stage" : "stageOff"}
          size="round"
          className={camera.on ? "bg-black/50 backdrop-blur-sm hover:bg-black/65" : ""}
          aria-label={camera.on ? "Turn camera off" : "Turn camera on"}
          onClick={() => void local.setCamera(!camera.on)}
        >
          {camera.on ? <VideoOn /> : <VideoOff />}
        </Button>
      </div>
      {microphone.on && microphone.track !== undefined && (
        <div className="absolute bottom-7 left-4 rounded-full bg-black/50 px-2.5 py-0.5">
          <LevelMeter track={microphone.track} />
        </div>
      )}
    </div>
  );
}
