import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { preview, type PreviewServer } from "vite";

import { complaintsOf, launch } from "./browser";

/** Every page and state, looked at: saved as a picture, and checked for overflow, accessibility and policy. */
const PAGES: { name: string; of?: string; press?: string | RegExp }[] = [
  { name: "start" },
  { name: "preview" },
  { name: "denied" },
  { name: "room-1" },
  { name: "room-2" },
  { name: "room-4" },
  { name: "room-9" },
  { name: "room-people", of: "room-9", press: "Participants" },
  { name: "room-statistics", of: "room-4", press: /^Connection/ },
  { name: "room-settings", of: "room-2", press: "Settings" },
  { name: "room-screen" },
  { name: "room-connecting" },
  { name: "room-reconnecting" },
  { name: "ended" },
  { name: "ended-unreachable" },
];
const SIZES = [
  { width: 390, height: 844 },
  { width: 768, height: 1024 },
  { width: 1440, height: 900 },
];
const OUT = new URL("../screenshots/", import.meta.url).pathname;
/** The few that the repository's README shows. */
const README_PICTURES = new URL("../../docs/screenshots/", import.meta.url).pathname;
const IN_README = new Set(["start-1440-light", "preview-1440-dark", "room-4-1440-light", "room-2-390-light", "room-reconnecting-1440-dark"]);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server: PreviewServer;
let browser: Browser;

beforeAll(async () => {
  for (const folder of [OUT, README_PICTURES]) mkdirSync(folder, { recursive: true });
  server = await preview({ build: { outDir: "dist-fixtures" }, preview: { port: 0, strictPort: false } });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

const cases = PAGES.flatMap((page) =>
  SIZES.flatMap((size) => (["light", "dark"] as const).map((theme) => ({ ...page, size, theme }))),
);

describe("every page", () => {
  test.each(cases)("$name at $size.width in $theme", async ({ name, of = name, press, size, theme }) => {
    const context = await browser.newContext({ viewport: size, colorScheme: theme, reducedMotion: "reduce" });
    onTestFinished(() => context.close());
    const page = await context.newPage();
    const complaints = complaintsOf(page);
    await page.goto(`${server.resolvedUrls?.local[0] ?? ""}fixtures/${of}`);
    await page.getByRole("main").waitFor();
    if (press !== undefined) await page.getByRole("button", { name: press }).click();
    await page.waitForFunction(picturesShown);
    const picture = `${name}-${size.width}-${theme}`;
    await page.screenshot({ path: `${OUT}${picture}.png` });
    if (IN_README.has(picture)) await page.screenshot({ path: `${README_PICTURES}${picture}.jpg`, type: "jpeg", quality: 80 });
    expect(await overflow(page), "sideways scrolling").toBe(0);
    expect(complaints, "errors and refusals by the content security policy").toEqual([]);
    expect(await violations(page), "accessibility").toEqual([]);
  });
});

function picturesShown(): boolean {
  const settled = !document.body.textContent?.includes("Finding the nearest");
  return settled && [...document.querySelectorAll("video")].every((video) => video.readyState >= 2 && video.videoWidth > 2);
}

function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const axe = (window as unknown as { axe: typeof import("axe-core") }).axe;
    const results = await axe.run();
    return results.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
  });
}
