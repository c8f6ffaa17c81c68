import { useEffect, useState, useSyncExternalStore } from "react";

import { useServices } from "@/app/services";
import { toast } from "@/components/ui/toast";
import { EndedPage } from "@/features/ended/ended-page";
import { PreviewPage } from "@/features/preview/preview-page";
import { RoomView } from "@/features/room/room-view";
import { store, stored } from "@/lib/stored";
import { PROBLEM_WORDS } from "@/lib/words";
import { LocalParticipant } from "@/sdk";

import { CallStore } from "./call-store";

/** A room's link: the preview, then the call, then its end. */
export function CallPage({ room }: { room: string }) {
  const services = useServices();
  const [local, setLocal] = useState<LocalParticipant>();
  const [call, setCall] = useState<CallStore>();
  /** Counts the stays in this room: each begins with the devices asked for anew. */
  const [stay, setStay] = useState(0);

  useEffect(() => {
    const chosen = { microphone: stored("microphone"), camera: stored("camera") };
    const participant = new LocalParticipant(services.environment.mediaDevices, chosen);
    void participant.start();
    // Made here and not while rendering: React may render twice, devices are asked for once.
    // oxlint-disable-next-line react/set-state-in-effect
    setLocal(participant);
    return () => participant.stop();
  }, [services, stay]);
  useEffect(() => {
    // Closing the page is leaving: without a word the others would see us for as long as a lost socket may take.
    const leave = () => call?.leave();
    window.addEventListener("pagehide", leave);
    return () => {
      window.removeEventListener("pagehide", leave);
      leave();
    };
  }, [call]);

  if (local === undefined) return null;
  const join = (name: string) => {
    store("name", name);
    const next = new CallStore(services, room, name, local);
    setCall(next);
    void next.join();
  };
  const rejoin = () => {
    setCall(undefined);
    setStay((count) => count + 1);
  };
  return (
    <>
      <title>{`${room} · Isthmus`}</title>
      {call === undefined ? (
        <PreviewPage key={stay} room={room} local={local} onJoin={join} />
      ) : (
        <CallInProgress call={call} local={local} onRejoin={rejoin} />
      )}
    </>
  );
}

interface CallInProgressProps {
  call: CallStore;
  local: LocalParticipant;
  onRejoin: () => void;
}

function CallInProgress({ call, local, onRejoin }: CallInProgressProps) {
  const snapshot = useSyncExternalStore(call.subscribe, call.getSnapshot);
  useDeviceMessages(local);
  const { phase, reason } = snapshot.connection;
  if (phase === "ended") return <EndedPage reason={reason ?? "left"} onRejoin={onRejoin} />;
  return <RoomView call={snapshot} actions={call} />;
}

/** Remembers the devices chosen, and says when one cannot be had. */
function useDeviceMessages(local: LocalParticipant): void {
  useEffect(() => {
    const stopListening = [
      local.on("mediaDevicesError", (source, { problem }) => {
        const device = source === "microphone" || source === "camera" ? source : "screen";
        if (problem !== "cancelled") toast(PROBLEM_WORDS[problem](device));
      }),
      local.on("changed", () => {
        for (const source of ["microphone", "camera"] as const) {
          const chosen = local.chosen[source];
          if (chosen !== undefined) store(source, chosen);
        }
      }),
    ];
    return () => stopListening.forEach((stop) => stop());
  }, [local]);
}
