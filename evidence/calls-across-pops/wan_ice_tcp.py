"""People whose network drops all UDP still get into the call, by ICE over TCP alone (RFC 6544), and see it fluently: the load
tester's client and Chromium. That the network does drop UDP is shown by someone on the same host who insists on it and gets
nowhere."""

import sys
import time

from cluster import POPS
from wan import NEAREST, World, note, pictures, running_world
from wan_browser import browsing

BLOCKED, PUBLISHER = "client-milan", "client-bogota"
ROOM = "ice-tcp"
LEAST_FPS = 20.0
STAY_S = 15
MAX_FREEZE_MS = 1000


def fps_of_chromium(world: World) -> float:
    """Pictures a second that the web app decodes on the blocked host."""
    with browsing(world.hosts[BLOCKED]) as page:
        page.join(world.url(NEAREST[BLOCKED]), ROOM)
        first = page.first_picture(STAY_S)
        note(f"Chromium: first picture {first}")
        before = page.picture()
        time.sleep(STAY_S)
        after = page.picture()
    return 1000 * (after.frames - before.frames) / (after.at_ms - before.at_ms)


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    for pop in POPS:
        world.set_link(BLOCKED, pop, "--block", "udp")
    publisher = world.join(PUBLISHER, ROOM, "--publish", "audio,video", "--simulcast", "--duration", "5m")
    stay = ("--video-slots", "1", "--duration", f"{STAY_S}s")
    by_tcp = world.join(BLOCKED, ROOM, "--ice", "tcp", *stay)
    by_udp = world.join(BLOCKED, ROOM, "--ice", "udp", *stay)
    over_tcp, over_udp = by_tcp.report(), by_udp.report()
    browser_fps = fps_of_chromium(world)
    publisher.leave()
    note(f"over TCP: {over_tcp['join']} {over_tcp['errors']} {over_tcp['slots']}")
    seen, *_ = pictures(over_tcp) or [None]
    if seen is None:
        print(f"UDP blocked: no picture over ICE-TCP within {STAY_S} s")
        return False
    fps, freeze_ms, frames_by_udp = seen["frames_per_second"], seen["longest_freeze_ms"], len(pictures(over_udp))
    print(
        f"UDP blocked: {fps:.1f} frames/s over ICE-TCP until the end of {STAY_S} s, longest freeze {freeze_ms:.0f} ms, "
        f"{seen['height']} px, first after {seen['first_frame_ms']:.0f} ms; Chromium {browser_fps:.1f} frames/s; "
        f"{frames_by_udp} pictures over UDP"
    )
    return min(fps, browser_fps) >= LEAST_FPS and freeze_ms <= MAX_FREEZE_MS and frames_by_udp == 0


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
