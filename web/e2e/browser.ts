import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";

import { chromium, type Browser, type Page } from "playwright-core";

import { instrument, Participant, roomLink } from "./participant";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

/** A domain whose hosts are all on this machine, with certificates of an authority that nobody else knows. */
export interface LocalDomain {
  name: string;
  /** The authority's certificate, a PEM file. */
  authority: string;
}

/** A browser with a made-up camera and microphone, 30 pictures per second and a beep, that asks nobody. */
export async function launch(domain?: LocalDomain): Promise<Browser> {
  const home = domain === undefined ? undefined : homeThatTrusts(domain.authority);
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream=fps=30",
      "--autoplay-policy=no-user-gesture-required",
      "--disable-background-timer-throttling",
      "--disable-renderer-backgrounding",
      ...(domain === undefined ? [] : [`--host-resolver-rules=MAP *.${domain.name} 127.0.0.1`]),
    ],
    ...(home === undefined ? {} : { env: { ...process.env, HOME: home } }),
  });
  if (home !== undefined) browser.once("disconnected", () => rmSync(home, { recursive: true, force: true }));
  return browser;
}

/** A home folder whose certificate database, where Chromium looks on Linux, knows one more authority. */
function homeThatTrusts(authority: string): string {
  const home = mkdtempSync(joinPath(tmpdir(), "isthmus-home-"));
  const database = joinPath(home, ".pki/nssdb");
  mkdirSync(database, { recursive: true });
  execFileSync("certutil", ["-N", "-d", `sql:${database}`, "--empty-password"]);
  execFileSync("certutil", ["-A", "-d", `sql:${database}`, "-n", "isthmus", "-t", "C,,", "-i", authority]);
  return home;
}

/** What the page says that it should not: errors, and what the content security policy refused. */
export function complaintsOf(page: Page): string[] {
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  return complaints;
}

export type Prepare = (page: Page) => Promise<unknown>;

export interface JoinOptions {
  /** Origin of the door that serves the page. */
  door: string;
  room: string;
  name: string;
  /** The place a development door emulates. */
  asIf?: string;
  /** What else is done to their page before it loads. */
  prepare?: Prepare;
}

/** Goes the way a person goes: opens the link, says a name, joins. */
export async function join(browser: Browser, options: JoinOptions): Promise<ChromiumParticipant> {
  const context = await browser.newContext({ viewport: { width: 640, height: 480 } });
  const page = await context.newPage();
  const participant = new ChromiumParticipant(page);
  await page.addInitScript(instrument);
  await options.prepare?.(page);
  await page.goto(roomLink(options.door, options.room, options.asIf));
  await page.getByLabel("Your name").fill(options.name);
  await page.getByRole("button", { name: "Join" }).click();
  await page.getByRole("button", { name: "Leave" }).waitFor();
  await participant.connected();
  return participant;
}

/** Someone in a call by Chromium. */
export class ChromiumParticipant extends Participant {
  readonly page: Page;
  readonly complaints: string[];
  /** Where the page's sockets went. */
  readonly sockets: string[] = [];

  constructor(page: Page) {
    super((inPage, argument) => page.evaluate(inPage as never, argument));
    this.page = page;
    this.complaints = complaintsOf(page);
    page.on("websocket", (socket) => this.sockets.push(socket.url()));
  }

  async leave(): Promise<void> {
    await this.page.getByRole("button", { name: "Leave" }).click();
    await this.page.getByRole("heading", { name: "You left the call" }).waitFor();
  }

  /** The page's process is gone from one moment to the next: neither the page nor its connections say goodbye. */
  async crash(): Promise<void> {
    const session = await this.page.context().newCDPSession(this.page);
    const crashed = this.page.waitForEvent("crash");
    // Nobody is left to answer.
    session.send("Page.crash").catch(() => undefined);
    await crashed;
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
