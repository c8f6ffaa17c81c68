import { createMemoryHistory, createRootRoute, createRouter, RouterProvider } from "@tanstack/react-router";
import { act, render, type RenderResult } from "@testing-library/react";
import axe from "axe-core";
import type { ReactNode } from "react";

import { App } from "@/app/app";
import type { Services } from "@/app/services";
import { Nearest } from "@/features/nearest/nearest";
import { popEntry } from "@/sdk/testing/pop-entry";
import { World } from "@/sdk/testing/world";

export const ZURICH = popEntry("zurich", { region: "Zurich, Switzerland", rtt_ms: 18, load: 0.1 });

/** Doors that answer at once, and a world whose time the test moves. */
export function services(changes: Partial<Services> = {}): Services & { environment: World } {
  const environment = new World();
  environment.onFetch = async (url) => {
    if (url.includes("/v1/pops")) return Response.json({ pops: [ZURICH], max_age_s: 60 });
    if (url.includes("/guests")) return Response.json({ room: "demo", token: "t", expires_in_s: 60 });
    return new Response(null, { status: 204 });
  };
  const nearest = new Nearest(environment, ZURICH.url, undefined);
  return { nearest, development: false, debug: false, ...changes, environment };
}

/** Shows a page, or part of one, with all it needs around it. */
export async function show(content: ReactNode, given: Services = services()): Promise<RenderResult> {
  const root = createRootRoute({ component: () => content, notFoundComponent: () => content });
  const router = createRouter({ routeTree: root, history: createMemoryHistory() });
  let result: RenderResult | undefined;
  await act(async () => {
    result = render(
      <App services={given}>
        <RouterProvider router={router as never} />
      </App>,
    );
    await router.load();
  });
  if (result === undefined) throw new Error("Nothing was rendered");
  return result;
}

/** What axe finds wrong; colours need a real browser, see e2e/screenshots.ts. */
export async function accessibilityFaults(element: Element): Promise<string[]> {
  const results = await axe.run(element, { rules: { "color-contrast": { enabled: false } } });
  return results.violations.map(({ id, help }) => `${id}: ${help}`);
}
