import { Link } from "@tanstack/react-router";

import { PageFrame } from "@/app/page-frame";
import { Button, buttonVariants } from "@/components/ui/button";
import { cn } from "@/lib/utils";
import { ENDINGS } from "@/lib/words";
import type { EndReason } from "@/sdk";

/** After a call: why it ended, and the way back. */
export function EndedPage({ reason, onRejoin }: { reason: EndReason; onRejoin: () => void }) {
  const { title, detail, rejoin } = ENDINGS[reason];
  return (
    <PageFrame>
      <div className="mx-auto flex w-full max-w-md flex-col items-center gap-8 text-center">
        <div className="flex flex-col gap-3">
          <h1 className="text-3xl font-semibold tracking-tight text-balance">{title}</h1>
          {detail !== "" && <p className="text-lg text-pretty text-muted-foreground">{detail}</p>}
        </div>
        <div className="flex w-full flex-col gap-3 sm:flex-row-reverse sm:justify-center">
          {rejoin && (
            <Button size="lg" onClick={onRejoin}>
              Rejoin
            </Button>
          )}
          <Link to="/" search={true} className={cn(buttonVariants({ variant: "secondary", size: "lg" }))}>
            Home
          </Link>
        </div>
      </div>
    </PageFrame>
  );
}
