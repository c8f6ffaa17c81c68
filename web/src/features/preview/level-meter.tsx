import { useEffect, useState } from "react";

import { cn } from "@/lib/utils";

const BARS = 5;
/** Looks at the level this often, in milliseconds. */
const EVERY_MS = 80;

/** Bars that move with the microphone, so that people see they are heard. */
export function LevelMeter({ track }: { track: MediaStreamTrack }) {
  const lit = Math.round(useLevel(track) * BARS);
  return (
    <span role="img" aria-label="Microphone level" className="flex h-5 items-center gap-0.5">
      {Array.from({ length: BARS }, (_, bar) => (
        <span
          key={bar}
          className={cn("w-1 rounded-full transition-colors duration-100", bar < lit ? "h-4 bg-emerald-400" : "h-2 bg-white/35")}
        />
      ))}
    </span>
  );
}

/** The loudness of a track, 0 to 1. */
function useLevel(track: MediaStreamTrack): number {
  const [level, setLevel] = useState(0);
  useEffect(() => {
    if (typeof AudioContext === "undefined") return undefined;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // From -60 dB, a quiet room, to -15 dB, a voice close by.
      const decibels = 10 * Math.log10(power + 1e-9);
      setLevel(Math.min(1, Math.max(0, (decibels + 60) / 45)));
    }, EVERY_MS);
    return () => {
      clearInterval(timer);
      void context.close();
    };
  }, [track]);
  return level;
}
