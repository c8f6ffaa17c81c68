import { describe, expect, test } from "vitest";

import type { Participant, Slot } from "./protocol.gen";
import { publicationFor, Roster } from "./roster";
import { scriptedTrack } from "./testing/peer-connection";

function someone(id: string, muted = false): Participant {
  return {
    id,
    identity: `identity-${id}`,
    name: id,
    pop: "zurich",
    tracks: [
      { id: `${id}.0`, source: "microphone", muted, rids: [] },
      { id: `${id}.1`, source: "camera", muted: false, rids: ["q", "h", "f"] },
    ],
  };
}

function slot(mid: string, participant: string | undefined): Slot {
  const content = participant === undefined ? null : { track: `${participant}.1`, participant, state: "live" as const };
  return { mid, content };
}

const order = (roster: Roster) => roster.participants.map(({ id }) => id);

describe("the roster", () => {
  test("says who joined, what they published, what changed and who left", () => {
    const roster = new Roster();
    expect(roster.welcome("me", [someone("me"), someone("ana")]).map(({ type }) => type)).toEqual(["joined", "published", "published"]);
    expect(roster.update(someone("ana", true)).map(({ type }) => type)).toEqual(["updated", "muted"]);
    expect(roster.update({ ...someone("ana", true), tracks: [] }).map(({ type }) => type)).toEqual(["updated", "unpublished", "unpublished"]);
    expect(roster.remove("ana").map(({ type }) => type)).toEqual(["left"]);
    expect(roster.remove("ana")).toEqual([]);
  });

  test("keeps people in their place when they come back as another stay", () => {
    const roster = new Roster();
    roster.welcome("me", [someone("ana"), someone("ben"), someone("cid")]);
    roster.update(someone("ana-2"), "ana");
    expect(order(roster)).toEqual(["ana-2", "ben", "cid"]);
    roster.remove("ben");
    roster.update(someone("ben-2"), "ben");
    expect(order(roster)).toEqual(["ana-2", "ben-2", "cid"]);
  });

  test("never shows us ourselves, nor an earlier stay of ours", () => {
    const roster = new Roster();
    roster.welcome("me", [someone("me"), someone("ana")]);
    roster.welcome("me-2", [someone("me"), someone("me-2"), someone("ana")]);
    expect(order(roster)).toEqual(["ana"]);
  });

  test("drops whoever left while we were away", () => {
    const roster = new Roster();
    roster.welcome("me", [someone("ana"), someone("ben")]);
    expect(roster.welcome("me", [someone("ben")]).map(({ type }) => type)).toContain("left");
    expect(order(roster)).toEqual(["ben"]);
  });
});

describe("slots", () => {
  test("give each publication the media of the m-line it stands in, and take it away again", () => {
    const roster = new Roster();
    roster.welcome("me", [someone("ana"), someone("ben")]);
    const media = new Map([["5", scriptedTrack("video")], ["6", scriptedTrack("video")]]);
    const trackOf = (mid: string) => media.get(mid);
    const camera = (id: string) => {
      const participant = roster.get(id);
      return participant && publicationFor(participant, "camera");
    };

    roster.fillSlots([slot("5", "ana"), slot("6", undefined)], trackOf);
    expect(camera("ana")?.mediaTrack).toBe(media.get("5"));
    expect(camera("ben")?.mediaTrack).toBeUndefined();

    roster.fillSlots([slot("5", "ben"), slot("6", "ana")], trackOf);
    expect(camera("ana")?.mediaTrack).toBe(media.get("6"));
    expect(camera("ben")?.mediaTrack).toBe(media.get("5"));
  });

  test("survive news of the participant that stands in them", () => {
    const roster = new Roster();
    roster.welcome("me", [someone("ana")]);
    const track = scriptedTrack("video");
    roster.fillSlots([slot("5", "ana")], () => track);
    roster.update(someone("ana", true));
    const ana = roster.get("ana");
    expect(ana && publicationFor(ana, "camera")?.mediaTrack).toBe(track);
  });
});
