import puppeteer, { type Browser, type Page } from "puppeteer-core";

import type { JoinOptions } from "./browser";
import { instrument, Participant, roomLink } from "./participant";

const FIREFOX = process.env["FIREFOX"] ?? "/usr/bin/firefox-esr";

/** Firefox by WebDriver BiDi, with a made-up camera and microphone, that asks nobody. */
export function launchFirefox(): Promise<Browser> {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: FIREFOX,
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      // Allowed for good and not only once: it hides the machine's addresses from pages that have no such permission.
      "permissions.default.camera": 1,
      "permissions.default.microphone": 1,
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      // Where the cluster is, and where it would gather no candidates.
      "media.peerconnection.ice.loopback": true,
    },
  });
}

/** Goes the way a person goes: opens the link, says a name, joins. */
export async function joinByFirefox(browser: Browser, options: JoinOptions): Promise<FirefoxParticipant> {
  const page = await browser.newPage();
  const participant = new FirefoxParticipant(page);
  await page.evaluateOnNewDocument(instrument);
  await page.goto(roomLink(options.door, options.room, options.asIf));
  await page.locator("input[autocomplete=name]").fill(options.name);
  await page.locator("button[type=submit]").click();
  await participant.connected();
  return participant;
}

/** Someone in a call by Firefox. */
export class FirefoxParticipant extends Participant {
  readonly complaints: string[] = [];

  constructor(page: Page) {
    super((inPage, argument) => page.evaluate(inPage as never, argument));
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") this.complaints.push(message.text());
    });
  }
}
