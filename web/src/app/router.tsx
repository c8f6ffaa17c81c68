import { createRootRoute, createRoute, createRouter, Link, Outlet } from "@tanstack/react-router";

import { buttonVariants } from "@/components/ui/button";
import { CallPage } from "@/features/call/call-page";
import { StartPage } from "@/features/start/start-page";
import { isRoomName } from "@/lib/room-name";
import { cn } from "@/lib/utils";

import { PageFrame } from "./page-frame";

/** The query carries only switches for development; pages hand it on unchanged. */
const rootRoute = createRootRoute({
  component: Outlet,
  notFoundComponent: NothingHere,
  validateSearch: (search: Record<string, unknown>) => search,
});

const startRoute = createRoute({ getParentRoute: () => rootRoute, path: "/", component: StartPage });

const roomRoute = createRoute({ getParentRoute: () => rootRoute, path: "/r/$room", component: RoomPage });

function RoomPage() {
  const { room } = roomRoute.useParams();
  return isRoomName(room) ? <CallPage key={room} room={room} /> : <NothingHere />;
}

function NothingHere() {
  return (
    <PageFrame>
      <div className="mx-auto flex max-w-md flex-col items-center gap-6 text-center">
        <h1 className="text-3xl font-semibold tracking-tight">There is nothing here</h1>
        <p className="text-lg text-muted-foreground">Check the link, or start a call of your own.</p>
        <Link to="/" search={true} className={cn(buttonVariants({ size: "lg" }))}>
          Home
        </Link>
      </div>
    </PageFrame>
  );
}

export function makeRouter() {
  return createRouter({ routeTree: rootRoute.addChildren([startRoute, roomRoute]) });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
