"""Someone whose access link is capped to 300 kbit/s gets the low layer in time and goes on seeing it move, while someone else in
the same PoP keeps the high one without a freeze. The capped one and the publisher are Chromium with the web app; the layer is
what the capped one's own statistics say that it decodes, and it counts only while new frames of it come."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from wan import NEAREST, World, note, pictures, running_world, wait_until
from wan_browser import Page, Picture, browsing

CAPPED, PUBLISHER = "client-milan", "client-jakarta"
OTHERWISE = "client-bogota"
ROOM = "simulcast"
CAP_MBPS = "0.3"
LOW_PX, HIGH_PX = 180, 720
LOW_WITHIN_S = 5.0
HIGH_WITHIN_S = 45
WATCHED_S = 15
LEAST_FPS = 20.0
LEAST_LOW_FPS = 15.0
"""What the capped one must go on decoding: the low layer has 30, and packets queue at the cap while the estimate falls."""
MAX_FREEZE_MS = 1000
SAMPLE_S = 0.25


def estimate_kbps(world: World, pop: str) -> list[int | None]:
    """What the node takes the paths to its clients in the room to carry."""
    rooms = [room for of_node in world.ask_operators(pop, "/debug/rooms").values() for room in of_node]
    return [client["estimate_kbps"] for room in rooms for client in room["local"]]


@dataclass(frozen=True)
class Sample:
    """What the capped one decodes so long after the cap."""

    passed_s: float
    picture: Picture


@dataclass(frozen=True)
class Capped:
    """How someone fared whose link was capped."""

    low_after_s: float | None
    """Until frames of the low layer came; none if they never did."""
    low_fps: float
    """From when the low layer was due until the end. A frame of another size does not count, nor the time of a frozen picture out."""
    longest_pause_s: float
    """The same time's longest without a new frame of the low layer, to the precision of the samples."""


def fared(samples: list[Sample]) -> Capped:
    """Judges by frames that are new: the size of a frozen picture says nothing."""
    steps = list(pairwise(samples))
    new_low = [
        (after.passed_s, after.picture.frames - before.picture.frames)
        for before, after in steps
        if before.picture.height == after.picture.height == LOW_PX and after.picture.frames > before.picture.frames
    ]
    due = [(at_s, frames) for at_s, frames in new_low if at_s > LOW_WITHIN_S]
    end_s = samples[-1].passed_s
    moments = [LOW_WITHIN_S, *(at_s for at_s, _ in due), end_s]
    return Capped(
        low_after_s=new_low[0][0] if new_low else None,
        low_fps=sum(frames for _, frames in due) / (end_s - LOW_WITHIN_S),
        longest_pause_s=max(later - earlier for earlier, later in pairwise(moments)),
    )


def cap(world: World, page: Page) -> Capped:
    """Caps the link and watches what is decoded then."""
    began = time.monotonic()
    world.set_link(NEAREST[CAPPED], CAPPED, "--one-direction", "--rate-mbps", CAP_MBPS)
    samples = []
    while not samples or samples[-1].passed_s < WATCHED_S:
        picture = page.picture()
        samples.append(Sample(time.monotonic() - began, picture))
        note(f"{samples[-1].passed_s:.1f} s: {picture}, estimate {estimate_kbps(world, NEAREST[CAPPED])} kbit/s")
        time.sleep(SAMPLE_S)
    return fared(samples)


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    with ExitStack() as browsers:
        # Three encoders of a real camera's rates: of the load tester's clips the middle layer would fit under the cap too.
        door = world.url(NEAREST[PUBLISHER])
        browsers.enter_context(browsing(world.hosts[PUBLISHER], trusted=door)).join(door, ROOM)
        page = browsers.enter_context(browsing(world.hosts[CAPPED]))
        page.join(world.url(NEAREST[CAPPED]), ROOM)
        high_after_s = wait_until(lambda: page.picture().height == HIGH_PX, HIGH_WITHIN_S)
        note(f"the high layer after {high_after_s} s: {page.picture()}")
        if high_after_s is None:
            print(f"without a cap the high layer is not decoded within {HIGH_WITHIN_S} s")
            return False
        uncapped = world.join(OTHERWISE, ROOM, "--pop", NEAREST[CAPPED], "--video-slots", "2", "--duration", "10m")
        wait_until(lambda: len(estimate_kbps(world, NEAREST[CAPPED])) == 2, HIGH_WITHIN_S)
        time.sleep(8)
        capped = cap(world, page)
        # The onlooker's dark camera may have a slot too.
        high, *_ = pictures(uncapped.leave()) or [None]
    note(f"capped: {capped}; uncapped: {high}")
    told = "never" if capped.low_after_s is None else f"{capped.low_after_s:.1f} s after"
    keeps = "nothing" if high is None else (
        f"{high['height']} px at {high['frames_per_second']:.0f} frames/s, unchanged for {high['size_stood_ms'] / 1000:.0f} s, "
        f"longest freeze {high['longest_freeze_ms']:.0f} ms"
    )
    print(
        f"low layer {told} a cap of 300 kbit/s, then {capped.low_fps:.0f} frames/s of it until {WATCHED_S} s after, "
        f"longest pause {1000 * capped.longest_pause_s:.0f} ms; the uncapped one sees {keeps}"
    )
    in_time = capped.low_after_s is not None and capped.low_after_s <= LOW_WITHIN_S
    goes_on = capped.low_fps >= LEAST_LOW_FPS and 1000 * capped.longest_pause_s <= MAX_FREEZE_MS
    return in_time and goes_on and high is not None and keeps_high(high)


def keeps_high(picture: dict) -> bool:
    """Whether someone has seen the high layer all the time that the other was capped, and fluently."""
    stood = picture["height"] == HIGH_PX and picture["size_stood_ms"] >= 1000 * WATCHED_S
    return stood and picture["frames_per_second"] >= LEAST_FPS and picture["longest_freeze_ms"] <= MAX_FREEZE_MS


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
