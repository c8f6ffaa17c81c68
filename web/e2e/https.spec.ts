import { expect } from "vitest";

import { test as callTest, type Place } from "./call";
import { figure } from "./figure";

const DOMAIN = "isthmus.test";
/** Each page comes from the door of another PoP than the nearest, so that all of a call is cross-origin. */
const PEOPLE: { name: string; asIf: Place; pop: string; servedBy: string }[] = [
  { name: "Ana", asIf: "bogota", pop: "panama", servedBy: "singapore" },
  { name: "Max", asIf: "milan", pop: "zurich", servedBy: "panama" },
  { name: "Siti", asIf: "jakarta", pop: "singapore", servedBy: "zurich" },
];

const test = callTest.override("domain", { scope: "file" }, DOMAIN);

test("three host names under one domain carry a call by HTTPS and WSS", async ({ arrive }) => {
  const present = [];
  for (const { name, asIf, servedBy } of PEOPLE) present.push(await arrive(name, asIf, { door: servedBy }));
  await Promise.all(present.map((participant) => participant.sees(PEOPLE.length - 1)));
  const pages = present.map(({ page }) => new URL(page.url()));
  const sockets = present.flatMap((participant) => participant.sockets.map((url) => new URL(url)));
  figure(`pages of ${hosts(pages)} by ${schemes(pages)}, sockets to ${hosts(sockets)} by ${schemes(sockets)}; each sees both others`);
  expect(pages.map(({ protocol, hostname }) => `${protocol}${hostname}`)).toEqual(
    PEOPLE.map(({ servedBy }) => `https:${servedBy}.${DOMAIN}`),
  );
  expect(sockets.map(({ protocol, hostname }) => `${protocol}${hostname}`)).toEqual(
    PEOPLE.map(({ pop }) => `wss:${pop}.${DOMAIN}`),
  );
});

function hosts(urls: URL[]): string {
  return [...new Set(urls.map(({ hostname }) => hostname))].join(", ");
}

function schemes(urls: URL[]): string {
  return [...new Set(urls.map(({ protocol }) => protocol.replace(":", "")))].join(" and ");
}
