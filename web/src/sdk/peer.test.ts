import { describe, expect, test } from "vitest";

import { AUDIO_SLOTS, Peer } from "./peer";
import type { OfferedTrack } from "./protocol.gen";
import { DEPENDENCY_DESCRIPTOR } from "./scalability";
import { scriptedTrack } from "./testing/peer-connection";
import { settled, World } from "./testing/world";

function start() {
  const world = new World();
  const offers: { revision: number; sdp: string; tracks: OfferedTrack[] }[] = [];
  const errors: unknown[] = [];
  const peer = new Peer(world, {
    offer: (revision, sdp, tracks) => offers.push({ revision, sdp, tracks }),
    candidate: () => undefined,
    iceState: () => undefined,
    broken: (error) => errors.push(error),
  });
  return { peer, offers, errors, connection: world.peerConnection };
}

async function joined() {
  const call = start();
  call.peer.publish("microphone", { track: scriptedTrack("audio"), muted: false });
  call.peer.publish("camera", { track: scriptedTrack("video"), muted: false });
  call.peer.ensureSlots(4);
  call.peer.start();
  await settled();
  return call;
}

describe("offers", () => {
  test("wait for someone to send them to, and then carry everything in one", async () => {
    const { peer, offers } = start();
    peer.publish("microphone", { track: null, muted: true });
    peer.ensureSlots(4);
    await settled();
    expect(offers).toEqual([]);
    peer.start();
    await settled();
    expect(offers).toEqual([{ revision: 1, sdp: "offer 1", tracks: [{ mid: "0", source: "microphone", muted: true }] }]);
  });

  test("go one at a time: wishes during one become the next", async () => {
    const { peer, offers, errors } = await joined();
    peer.ensureSlots(9);
    peer.publish("screen", { track: scriptedTrack("video"), muted: false });
    peer.restartIce();
    await settled();
    expect(offers).toHaveLength(1);
    peer.answer(1, "answer 1");
    await settled();
    expect(offers.map(({ revision }) => revision)).toEqual([1, 2]);
    expect(offers[1]?.tracks.map(({ source }) => source)).toEqual(["microphone", "camera", "screen"]);
    peer.answer(2, "answer 2");
    await settled();
    expect(offers).toHaveLength(2);
    expect(errors).toEqual([]);
  });

  test("ignore the answer to an earlier offer", async () => {
    const { peer, connection } = await joined();
    peer.answer(7, "of another life");
    await settled();
    expect(connection.signalingState).toBe("have-local-offer");
    peer.answer(1, "answer 1");
    await settled();
    expect(connection.signalingState).toBe("stable");
  });

  test("that were not answered are sent again under a new revision", async () => {
    const { peer, offers, connection } = await joined();
    expect(peer.unanswered).toBe(1);
    peer.offerAgain();
    expect(peer.unanswered).toBe(2);
    expect(offers.map(({ revision, sdp }) => [revision, sdp])).toEqual([[1, "offer 1"], [2, "offer 1"]]);
    peer.answer(2, "answer");
    await settled();
    expect(connection.signalingState).toBe("stable");
    expect(peer.unanswered).toBeUndefined();
  });

  test("are not needed to mute, to swap a track or to take the camera away and back", async () => {
    const { peer, offers } = await joined();
    peer.answer(1, "answer 1");
    await settled();
    peer.publish("camera", { track: null, muted: true });
    peer.publish("camera", { track: scriptedTrack("video"), muted: false });
    peer.setMuted("microphone", true);
    peer.ensureSlots(3);
    await settled();
    expect(offers).toHaveLength(1);
  });

  test("of a screen that is shared again use the same m-line", async () => {
    const { peer, offers } = await joined();
    const finish = async () => {
      peer.answer(offers.length, "answer");
      await settled();
    };
    await finish();
    peer.publish("screen", { track: scriptedTrack("video"), muted: false });
    await settled();
    const mid = offers.at(-1)?.tracks.find(({ source }) => source === "screen")?.mid;
    await finish();
    peer.unpublish("screen");
    await settled();
    expect(offers.at(-1)?.tracks.map(({ source }) => source)).not.toContain("screen");
    await finish();
    peer.publish("screen", { track: scriptedTrack("video"), muted: false });
    await settled();
    expect(offers.at(-1)?.tracks.find(({ source }) => source === "screen")?.mid).toBe(mid);
  });
});

describe("media", () => {
  test("has three layers for the camera, lowest first, and the slots it was asked for", async () => {
    const { connection } = await joined();
    const camera = connection.transceivers.find(({ encodings }) => encodings.length === 3);
    expect(camera?.encodings.map(({ rid, scaleResolutionDownBy }) => [rid, scaleResolutionDownBy])).toEqual([
      ["q", 4],
      ["h", 2],
      ["f", 1],
    ]);
    const slots = connection.transceivers.filter(({ direction }) => direction === "recvonly");
    expect(slots).toHaveLength(AUDIO_SLOTS + 4);
  });

  test("comes in fewer layers from a camera that captures less, and never without the whole picture", async () => {
    const { peer, connection } = await joined();
    const camera = connection.transceivers.find(({ encodings }) => encodings.length === 3);
    const sent = () =>
      camera?.encodings.flatMap(({ rid, active, scaleResolutionDownBy }) => (active === true ? [`${rid}/${scaleResolutionDownBy}`] : []));
    const capture = async (width: number, height: number) => {
      peer.publish("camera", { track: scriptedTrack("video", { width, height }), muted: false });
      await settled();
      return sent();
    };
    expect(await capture(1280, 720)).toEqual(["q/4", "h/2", "f/1"]);
    expect(await capture(640, 480)).toEqual(["q/2", "h/1"]);
    expect(await capture(320, 240)).toEqual(["q/1"]);
    peer.applyLayers(camera?.mid ?? "", ["q"]);
    expect(await capture(480, 640)).toEqual(["q/2"]);
    peer.applyLayers(camera?.mid ?? "", ["q", "h", "f"]);
    await settled();
    expect(sent()).toEqual(["q/2", "h/1"]);
  });

  test("is told what the frames of others depend on", async () => {
    const { connection } = await joined();
    const directions = connection.transceivers.map((transceiver) => {
      const extensions = transceiver.getHeaderExtensionsToNegotiate();
      const descriptor = extensions.find(({ uri }) => uri === DEPENDENCY_DESCRIPTOR);
      return [transceiver.receiver.track.kind, transceiver.direction, descriptor?.direction];
    });
    expect(directions.filter(([kind, direction]) => kind === "video" && direction === "recvonly")).toEqual(
      Array.from({ length: 4 }, () => ["video", "recvonly", "sendrecv"]),
    );
    expect(directions.filter(([kind, , descriptor]) => kind === "audio" && descriptor !== "stopped")).toEqual([]);
  });

  test("shares a screen at three rates, in a codec whose slower ones can be had alone", async () => {
    const { peer, offers, connection } = await joined();
    peer.answer(offers.length, "answer");
    peer.publish("screen", { track: scriptedTrack("video"), muted: false });
    const screen = connection.transceivers.at(-1);
    expect(screen?.encodings).toMatchObject([{ scalabilityMode: "L1T3" }]);
    expect(screen?.codecs).toEqual(["video/VP9", "video/rtx"]);
  });

  test("sends only the layers that someone shows, in the order in which that was said", async () => {
    const { peer, connection } = await joined();
    const camera = connection.transceivers.find(({ encodings }) => encodings.length === 3);
    peer.applyLayers(camera?.mid ?? "", []);
    peer.applyLayers(camera?.mid ?? "", ["q", "h"]);
    await settled();
    expect(camera?.encodings.map(({ active }) => active)).toEqual([true, true, false]);
  });
});
