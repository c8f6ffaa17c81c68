import { CSPProvider } from "@base-ui/react/csp-provider";
import type { ReactNode } from "react";

import { Toaster } from "@/components/ui/toast";
import { TooltipProvider } from "@/components/ui/tooltip";

import { ServicesProvider, type Services } from "./services";

/** What surrounds all pages. The policy of the doors allows no style elements, so Base UI adds none. */
export function App({ services, children }: { services: Services; children: ReactNode }) {
  return (
    <CSPProvider disableStyleElements>
      <ServicesProvider value={services}>
        <TooltipProvider delay={500}>{children}</TooltipProvider>
        <Toaster />
      </ServicesProvider>
    </CSPProvider>
  );
}
