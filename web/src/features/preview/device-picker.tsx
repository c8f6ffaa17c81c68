import { useEffect, useState } from "react";

import { useServices } from "@/app/services";
import { Select, SelectContent, SelectItem, SelectLabel, SelectTrigger, SelectValue } from "@/components/ui/select";
import { listDevices, type CaptureProblem, type LocalState } from "@/sdk";

interface DevicePickerProps {
  source: "microphone" | "camera";
  local: LocalState;
  onPick: (deviceId: string) => void;
}

/** Chooses a microphone or camera; says plainly that there is none. */
export function DevicePicker({ source, local, onPick }: DevicePickerProps) {
  const { track, problem } = local[source];
  const devices = useDevices(source, track);
  const items = devices.map((device, index) => ({
    value: device.deviceId,
    label: device.label || `${source === "camera" ? "Camera" : "Microphone"} ${index + 1}`,
  }));
  const present = track?.getSettings().deviceId ?? null;
  return (
    <div className="flex min-w-0 flex-1 flex-col gap-1.5">
      <Select
        items={items}
        value={items.some((item) => item.value === present) ? present : null}
        disabled={items.length === 0}
        onValueChange={(value) => value !== null && onPick(value)}
      >
        <SelectLabel>{source === "camera" ? "Camera" : "Microphone"}</SelectLabel>
        <SelectTrigger>
          <SelectValue placeholder={placeholderFor(items.length, problem)} />
        </SelectTrigger>
        <SelectContent>
          {items.map(({ value, label }) => (
            <SelectItem key={value} value={value}>
              {label}
            </SelectItem>
          ))}
        </SelectContent>
      </Select>
    </div>
  );
}

/** A browser that was told no names no devices: that none is known does not mean that there is none. */
function placeholderFor(known: number, problem: CaptureProblem | undefined): string {
  if (known > 0) return "Choose";
  return problem === "denied" ? "Not allowed" : "None found";
}

/** The devices there are, followed as they come and go. `track` only says when labels may have become known. */
function useDevices(source: "microphone" | "camera", track: MediaStreamTrack | undefined): MediaDeviceInfo[] {
  const { mediaDevices } = useServices().environment;
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    let gone = false;
    const look = async () => {
      const { microphones, cameras } = await listDevices(mediaDevices);
      if (!gone) setDevices(source === "camera" ? cameras : microphones);
    };
    void look();
    mediaDevices?.addEventListener("devicechange", look);
    return () => {
      gone = true;
      mediaDevices?.removeEventListener("devicechange", look);
    };
  }, [mediaDevices, source, track]);
  return devices;
}
