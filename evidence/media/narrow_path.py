"""The path to someone carries 2 Mbit/s, then 200 kbit/s, then 2 Mbit/s again: the sound goes on, and what the node takes the path to
carry follows. Receiver and publisher are Chromium with the web app; sound is missing as far as the receiver's own statistics
say that it made some up."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import listening  # noqa: F401, makes the modules of calls-across-pops known
from wan import NEAREST, World, note, running_world, wait_until
from wan_browser import Page, browsing

RECEIVER, PUBLISHER = "client-milan", "client-jakarta"
POP = NEAREST[RECEIVER]
ROOM = "narrow-path"
WIDE_MBPS, NARROW_MBPS = 2.0, 0.2
READY_WITHIN_S = 45
NARROW_FOR_S = 25
WIDE_FOR_S = 25
SAMPLE_S = 0.1
MOST_NARROW_KBPS, NARROW_WITHIN_S = 220, 3.0
LEAST_WIDE_KBPS, WIDE_WITHIN_S = 1500, 15.0
MAX_SOUND_GAP_MS = 500
CHROMIUM_HZ = 48_000
"""What it plays at, whatever comes."""


@dataclass(frozen=True)
class Sample:
    """What is known so long after the path changed."""

    passed_s: float
    estimate_kbps: int
    concealed: int
    """Samples of sound that were made up so far."""
    packets: int
    """Of sound."""


def estimate_kbps(world: World) -> int:
    """What the node takes the path to the receiver to carry; 0 before it knows."""
    rooms = [room for of_node in world.ask_operators(POP, "/debug/rooms").values() for room in of_node]
    return next((client["estimate_kbps"] or 0 for room in rooms for client in room["local"]), 0)


def watch(world: World, page: Page, rate_mbps: float, for_s: float) -> list[Sample]:
    """Gives the path this rate and looks on."""
    world.set_link(POP, RECEIVER, "--one-direction", "--rate-mbps", str(rate_mbps))
    began = time.monotonic()
    samples: list[Sample] = []
    while not samples or samples[-1].passed_s < for_s:
        sound = page.sound()
        samples.append(Sample(time.monotonic() - began, estimate_kbps(world), sound.concealed, sound.packets))
        time.sleep(SAMPLE_S)
    for sample in samples[::10]:
        note(f"{rate_mbps} Mbit/s: {sample}")
    return samples


def longest_gap_ms(samples: list[Sample]) -> float:
    """The longest time in which sound was made up, no shorter than it was: what is made up in neighbouring samples counts as one."""
    longest = gap = 0
    for before, after in pairwise(samples):
        made_up = after.concealed - before.concealed
        gap = gap + made_up if made_up > 0 else 0
        longest = max(longest, gap)
    return 1000 * longest / CHROMIUM_HZ


def first_s(samples: list[Sample], holds: Callable[[int], bool]) -> float | None:
    """When something held first."""
    return next((sample.passed_s for sample in samples if holds(sample.estimate_kbps)), None)


def told(seconds: float | None) -> str:
    """For people."""
    return "never" if seconds is None else f"after {seconds:.1f} s"


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    world.set_link(POP, RECEIVER, "--one-direction", "--rate-mbps", str(WIDE_MBPS), "--loss", "0", "--jitter-ms", "0")
    with ExitStack() as browsers:
        door = world.url(NEAREST[PUBLISHER])
        browsers.enter_context(browsing(world.hosts[PUBLISHER], trusted=door)).join(door, ROOM)
        page = browsers.enter_context(browsing(world.hosts[RECEIVER]))
        page.join(world.url(POP), ROOM)
        known_s = wait_until(lambda: estimate_kbps(world) >= LEAST_WIDE_KBPS, READY_WITHIN_S)
        if known_s is None or not page.sound().packets:
            print(f"the node takes 2 Mbit/s for {estimate_kbps(world)} kbit/s after {READY_WITHIN_S} s, {page.sound()}")
            return False
        narrow = watch(world, page, NARROW_MBPS, NARROW_FOR_S)
        wide = watch(world, page, WIDE_MBPS, WIDE_FOR_S)
    fell_s = first_s(narrow, lambda kbps: kbps <= MOST_NARROW_KBPS)
    rose_s = first_s(wide, lambda kbps: kbps >= LEAST_WIDE_KBPS)
    gap_ms = longest_gap_ms([*narrow, *wide])
    heard = wide[-1].packets - narrow[0].packets
    print(
        f"sound missing for {gap_ms:.0f} ms at most, {heard} packets of it heard; estimate at most {MOST_NARROW_KBPS} kbit/s {told(fell_s)} on "
        f"200 kbit/s, at least {LEAST_WIDE_KBPS} {told(rose_s)} on 2 Mbit/s"
    )
    falls = fell_s is not None and fell_s <= NARROW_WITHIN_S
    rises = rose_s is not None and rose_s <= WIDE_WITHIN_S
    goes_on = gap_ms <= MAX_SOUND_GAP_MS and heard >= 45 * (NARROW_FOR_S + WIDE_FOR_S)
    return falls and rises and goes_on


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
