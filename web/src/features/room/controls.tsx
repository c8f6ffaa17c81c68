import { Mic, MicOff, MonitorUp, Phone, Settings, Users, Video as VideoOn, VideoOff } from "lucide-react";
import type { ReactElement, ReactNode } from "react";

import { Button, type ButtonProps } from "@/components/ui/button";
import { Tooltip, TooltipContent, TooltipTrigger } from "@/components/ui/tooltip";
import type { CallActions, CallSnapshot } from "@/features/call/call";
import { cn } from "@/lib/utils";

interface ControlsProps {
  call: CallSnapshot;
  actions: CallActions;
  className?: string;
  peopleOpen: boolean;
  onPeople: () => void;
  onSettings: () => void;
}

/** The bar of a call. The red button stands apart. */
export function Controls({ call, actions, className, peopleOpen, onPeople, onSettings }: ControlsProps) {
  const { microphone, camera, screen } = call.local;
  const count = call.others.length + 1;
  return (
    <div role="toolbar" aria-label="Call" className={cn("flex items-center justify-center gap-1.5 sm:gap-3", className)}>
      <Control
        label={microphone.on ? "Mute" : "Unmute"}
        hint="M"
        off={!microphone.on}
        onClick={() => actions.setMicrophone(!microphone.on)}
      >
        {microphone.on ? <Mic /> : <MicOff />}
      </Control>
      <Control
        label={camera.on ? "Turn camera off" : "Turn camera on"}
        hint="V"
        off={!camera.on}
        onClick={() => actions.setCamera(!camera.on)}
      >
        {camera.on ? <VideoOn /> : <VideoOff />}
      </Control>
      {canShareScreen() && (
        <Control
          label={screen.on ? "Stop sharing" : "Share screen"}
          off={screen.on}
          onClick={() => actions.setScreenShare(!screen.on)}
        >
          <MonitorUp />
        </Control>
      )}
      <Control label="Participants" expanded={peopleOpen} onClick={onPeople}>
        <Users />
        <span aria-hidden className="absolute -top-0.5 -right-0.5 grid h-5 min-w-5 place-items-center rounded-full bg-white px-1 text-[11px] font-semibold text-zinc-900 tabular-nums">
          {count}
        </span>
      </Control>
      <Control label="Settings" onClick={onSettings}>
        <Settings />
      </Control>
      <Control label="Leave" variant="destructive" className="ml-2 w-16 sm:ml-5" onClick={() => actions.leave()}>
        <Phone className="rotate-[135deg]" />
      </Control>
    </div>
  );
}

interface ControlProps {
  label: string;
  hint?: string;
  off?: boolean;
  expanded?: boolean;
  variant?: ButtonProps["variant"];
  className?: string;
  onClick: () => void;
  children: ReactNode;
}

function Control({ label, hint, off = false, expanded, variant, className, onClick, children }: ControlProps): ReactElement {
  return (
    <Tooltip>
      <TooltipTrigger
        render={
          <Button
            size="round"
            variant={variant ?? (off ? "stageOff" : "stage")}
            aria-label={label}
            aria-expanded={expanded}
            aria-keyshortcuts={hint}
            className={cn("relative", className)}
            onClick={onClick}
          />
        }
      >
        {children}
      </TooltipTrigger>
      <TooltipContent>
        {label}
        {hint !== undefined && <kbd className="ml-2 font-sans text-white/60">{hint}</kbd>}
      </TooltipContent>
    </Tooltip>
  );
}

function canShareScreen(): boolean {
  return typeof navigator.mediaDevices?.getDisplayMedia === "function";
}
