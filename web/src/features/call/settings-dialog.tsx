import { Dialog, DialogContent, DialogTitle } from "@/components/ui/dialog";
import { Select, SelectContent, SelectItem, SelectLabel, SelectTrigger, SelectValue } from "@/components/ui/select";
import { DevicePicker } from "@/features/preview/device-picker";
import { setTheme, useTheme, type Theme } from "@/lib/theme";
import type { LocalState } from "@/sdk";

import type { CallActions } from "./call";

const THEMES = [
  { value: "system", label: "As the system" },
  { value: "light", label: "Light" },
  { value: "dark", label: "Dark" },
] as const;

interface SettingsDialogProps {
  open: boolean;
  onClose: () => void;
  local: LocalState;
  actions: Pick<CallActions, "switchDevice">;
}

export function SettingsDialog({ open, onClose, local, actions }: SettingsDialogProps) {
  return (
    <Dialog open={open} onOpenChange={(next) => !next && onClose()}>
      <DialogContent>
        <DialogTitle>Settings</DialogTitle>
        <div className="mt-4 flex flex-col gap-4">
          <DevicePicker source="microphone" local={local} onPick={(id) => actions.switchDevice("microphone", id)} />
          <DevicePicker source="camera" local={local} onPick={(id) => actions.switchDevice("camera", id)} />
          <ThemePicker />
        </div>
      </DialogContent>
    </Dialog>
  );
}

function ThemePicker() {
  const theme = useTheme();
  return (
    <div className="flex flex-col gap-1.5">
      <Select items={THEMES} value={theme} onValueChange={(value) => setTheme(value as Theme)}>
        <SelectLabel>Appearance</SelectLabel>
        <SelectTrigger>
          <SelectValue />
        </SelectTrigger>
        <SelectContent>
          {THEMES.map(({ value, label }) => (
            <SelectItem key={value} value={value}>
              {label}
            </SelectItem>
          ))}
        </SelectContent>
      </Select>
    </div>
  );
}
