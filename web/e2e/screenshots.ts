import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { preview, type PreviewServer } from "vite";

import { complaintsOf, launch } from "./browser";

/** Every page and state, looked at: saved as a picture, and checked for overflow, accessibility and policy. */
const PAGES = [
  "start", "preview", "denied", "room-1", "room-2", "room-4", "room-9", "room-screen", "room-reconnecting",
  "room-connecting", "ended", "ended-unreachable",
];
const SIZES = [
  { width: 390, height: 844 },
  { width: 768, height: 1024 },
  { width: 1440, height: 900 },
];
const OUT = new URL("../screenshots/", import.meta.url).pathname;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server: PreviewServer;
let browser: Browser;

beforeAll(async () => {
  mkdirSync(OUT, { recursive: true });
  server = await preview({ build: { outDir: "dist-fixtures" }, preview: { port: 0, strictPort: false } });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

const cases = PAGES.flatMap((name) =>
  SIZES.flatMap((size) => (["light", "dark"] as const).map((theme) => ({ name, size, theme }))),
);

describe("every page", () => {
  test.each(cases)("$name at $size.width in $theme", async ({ name, size, theme }) => {
    const context = await browser.newContext({ viewport: size, colorScheme: theme, reducedMotion: "reduce" });
    const page = await context.newPage();
    const complaints = complaintsOf(page);
    await page.goto(`${server.resolvedUrls?.local[0] ?? ""}fixtures/${name}`);
    await page.getByRole("main").waitFor();
    await page.waitForTimeout(400);
    await page.screenshot({ path: `${OUT}${name}-${size.width}-${theme}.png` });
    expect(await overflow(page), "sideways scrolling").toBe(0);
    expect(complaints, "errors and refusals by the content security policy").toEqual([]);
    expect(await violations(page), "accessibility").toEqual([]);
    await context.close();
  });
});

function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const axe = (window as unknown as { axe: typeof import("axe-core") }).axe;
    const { violations } = await axe.run();
    return violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
  });
}
