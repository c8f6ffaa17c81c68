import { RouterProvider } from "@tanstack/react-router";
import { StrictMode, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "@/app/app";
import { makeRouter } from "@/app/router";
import { browserServices } from "@/app/services";
import { applyTheme } from "@/lib/theme";

import "./index.css";

applyTheme();

/** The pages, or for screenshots (`--mode fixtures`) the pages with made-up people in them. */
async function content(): Promise<ReactNode> {
  if (import.meta.env.MODE === "fixtures") {
    const { Fixture } = await import("@/fixtures/fixture");
    return <Fixture />;
  }
  return <RouterProvider router={makeRouter()} />;
}

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element with the id root");
createRoot(root).render(
  <StrictMode>
    <App services={browserServices(location)}>{await content()}</App>
  </StrictMode>,
);
