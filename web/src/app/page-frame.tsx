import { Link } from "@tanstack/react-router";
import { Moon, Sun } from "lucide-react";
import type { ReactNode } from "react";

import { Button } from "@/components/ui/button";
import { AsIfBanner } from "@/features/nearest/as-if";
import { setTheme, useTheme } from "@/lib/theme";
import { useMediaQuery } from "@/lib/use-media-query";

import { Logo } from "./logo";

/** What every page but the call itself has around it. */
export function PageFrame({ children }: { children: ReactNode }) {
  return (
    <div className="flex min-h-dvh flex-col">
      <AsIfBanner />
      <header className="safe-x safe-top flex items-center justify-between pb-3 sm:px-8">
        <Link to="/" search={true} className="flex items-center gap-2.5 rounded-lg font-semibold tracking-tight outline-offset-4">
          <Logo className="size-8" />
          Isthmus
        </Link>
        <ThemeToggle />
      </header>
      <main className="safe-x safe-bottom flex flex-1 flex-col justify-center py-6 sm:px-8 sm:pb-16">{children}</main>
    </div>
  );
}

function ThemeToggle() {
  const theme = useTheme();
  const systemDark = useMediaQuery("(prefers-color-scheme: dark)");
  const dark = theme === "dark" || (theme === "system" && systemDark);
  return (
    <Button variant="ghost" size="icon" className="-mr-2.5" aria-label={dark ? "Use light colours" : "Use dark colours"} onClick={() => setTheme(dark ? "light" : "dark")}>
      {dark ? <Sun /> : <Moon />}
    </Button>
  );
}
