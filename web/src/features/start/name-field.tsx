import { Field, FieldLabel } from "@/components/ui/field";
import { Input } from "@/components/ui/input";
import { MAX_NAME_CHARS } from "@/sdk";

interface NameFieldProps {
  value: string;
  onChange: (name: string) => void;
}

export function NameField({ value, onChange }: NameFieldProps) {
  return (
    <Field>
      <FieldLabel>Your name</FieldLabel>
      <Input
        value={value}
        onValueChange={onChange}
        autoComplete="name"
        maxLength={MAX_NAME_CHARS}
        dir="auto"
        placeholder="What others see"
        required
      />
    </Field>
  );
}
