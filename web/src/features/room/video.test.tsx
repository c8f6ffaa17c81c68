import { expect, test } from "vitest";

import { scriptedTrack } from "@/sdk/testing/peer-connection";
import { show } from "@/testing/page";

import { Video } from "./video";

test("a picture that is no longer shown is let go at once", async () => {
  const { container, unmount } = await show(<Video media={scriptedTrack("video")} />);
  const video = container.querySelector("video");
  expect(video?.srcObject).toBeInstanceOf(MediaStream);
  unmount();
  expect(video?.srcObject).toBeNull();
});
