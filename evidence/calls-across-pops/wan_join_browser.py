"""How long it takes from opening a room's link in Chromium, with nothing cached, until it has decoded a picture of someone in
another PoP. Join is pressed as soon as it can be. The floor beside it is the network's alone: no page is parsed,
nothing computed."""

import sys

from wan import NEAREST, World, note, running_world
from wan_browser import browsing
from wan_join_time import JOINING, PHASES, PUBLISHER, RTT_MS, quantile

RUNS = 10
ROOM = "join-browser"
FIRST_WITHIN_S = 30
OWN_ROUND_TRIPS = 3 + 1 + 3 + 1 + 2 + 1 + 1 + 1 + 2
"""To the nearest PoP: page (TCP, page, script), list of PoPs, probes, token, socket (TCP, upgrade), hello, offer, ICE, DTLS. The
probes of farther PoPs are not waited for."""
GRACE_MS = 40
"""For which the page lets slower probes go on."""
MAX_P50_MS = 4000


def first_picture_ms(world: World, client: str) -> float:
    """One visit by a browser that remembers nothing."""
    with browsing(world.hosts[client]) as page:
        page.join(world.url(NEAREST[client]), ROOM)
        first = page.first_picture(FIRST_WITHIN_S)
    note(f"{client}: {first}")
    return float("inf") if first is None else first.at_ms


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    publisher = world.join(PUBLISHER, ROOM, "--publish", "audio,video", "--simulcast", "--duration", "10m")
    (client, pop), *_ = JOINING.items()
    times = [first_picture_ms(world, client) for _ in range(RUNS)]
    publisher.leave()
    floor_ms = OWN_ROUND_TRIPS * RTT_MS[client][pop] + GRACE_MS + PHASES[-1].floor_ms(client)
    p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
    print(f"Chromium near {pop}, publisher in panama: p50 {p50:.0f} ms, p95 {p95:.0f} ms in {RUNS} visits, floor {floor_ms:.0f} ms")
    return p50 <= MAX_P50_MS


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
