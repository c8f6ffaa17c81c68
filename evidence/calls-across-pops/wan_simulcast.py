"""Someone whose access link is capped to 300 kbit/s gets the low layer in time, while someone else in the same PoP keeps the
high one. The capped one and the publisher are Chromium with the web app; the layer is what the capped one's own statistics
say that it decodes."""

import sys
import time
from contextlib import ExitStack

from wan import NEAREST, Client, World, note, running_world, wait_until
from wan_browser import Page, browsing

CAPPED, PUBLISHER = "client-milan", "client-jakarta"
OTHERWISE = "client-bogota"
ROOM = "simulcast"
CAP_MBPS = "0.3"
LOW_PX, HIGH_PX = 180, 720
LOW_WITHIN_S = 5.0
HIGH_WITHIN_S = 45
WATCHED_S = 15


def estimate_kbps(world: World, pop: str) -> list[int | None]:
    """What the node takes the paths to its clients in the room to carry."""
    rooms = [room for of_node in world.ask_operators(pop, "/debug/rooms").values() for room in of_node]
    return [client["estimate_kbps"] for room in rooms for client in room["local"]]


def seconds_to_low(world: World, page: Page) -> float | None:
    """Caps the link; returns how long it takes until the low layer is decoded, and notes how it goes on."""
    began = time.monotonic()
    world.set_link(NEAREST[CAPPED], CAPPED, "--one-direction", "--rate-mbps", CAP_MBPS)
    low_after_s = None
    while (passed_s := time.monotonic() - began) < WATCHED_S:
        picture = page.picture()
        note(f"{passed_s:.1f} s: {picture}, estimate {estimate_kbps(world, NEAREST[CAPPED])} kbit/s")
        if picture.height == LOW_PX and low_after_s is None:
            low_after_s = passed_s
        time.sleep(0.25)
    return low_after_s


def seen_by(client: Client) -> dict:
    """Ends the stay of the one who is not capped; returns what they received of the picture. The onlooker's dark camera may have
    a slot too."""
    pictures = [slot["video"] for slot in client.leave()["slots"] if slot["kind"] == "video"]
    return max(pictures, key=lambda picture: picture["frames"])


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
        low_after_s = seconds_to_low(world, page)
        last = page.picture()
        uncapped_seen = seen_by(uncapped)
    note(f"uncapped: {uncapped_seen}")
    told = "never" if low_after_s is None else f"{low_after_s:.1f} s after"
    print(
        f"low layer {told} a cap of 300 kbit/s, {last.height} px after {WATCHED_S} s; "
        f"the uncapped one sees {uncapped_seen['height']} px at {uncapped_seen['frames_per_second']:.0f} frames/s"
    )
    in_time = low_after_s is not None and low_after_s <= LOW_WITHIN_S
    return in_time and last.height == LOW_PX and uncapped_seen["height"] == HIGH_PX


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
