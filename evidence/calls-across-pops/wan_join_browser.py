"""How long it takes from opening a room's link in Chromium, with nothing cached, until it has decoded a picture of someone in
another PoP. Join is pressed as soon as it can be. The floor is the network's alone: no page is parsed, nothing computed. What that
costs is measured in the same run, by a browser on the PoP's own host that sees someone on the same host. The goal is held
against both together, so that it follows neither the machine's speed nor the distances."""

import sys

from wan import World, note, running_world
from wan_browser import browsing
from wan_join_time import GRACE_MS, JOINING, PHASES, PUBLISHER, RTT_MS, quantile

RUNS = 10
FIRST_WITHIN_S = 30
OWN_ROUND_TRIPS = 3 + 1 + 3 + 1 + 2 + 1 + 1 + 2
"""To the nearest PoP: page (TCP, page, script), list of PoPs, probes, token, socket (TCP, upgrade), hello with offer, ICE, DTLS. The
probes of farther PoPs are not waited for."""
MULTIPLE = 1.2
"""Of floor and page together. That waiting and computing overlap makes up for some of what they cost each other."""


def first_picture_ms(world: World, host: str, pop: str) -> float:
    """One visit to the PoP's door by a browser that remembers nothing. Hosts have rooms of their own."""
    with browsing(world.hosts[host]) as page:
        page.join(world.url(pop), room_of(host))
        first = page.first_picture(FIRST_WITHIN_S)
    note(f"{host}: {first}")
    return float("inf") if first is None else first.at_ms


def room_of(host: str) -> str:
    """The room that a browser on the host opens."""
    return f"join-browser-{host}"


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    (client, pop), *_ = JOINING.items()
    published = ("--publish", "audio,video", "--simulcast", "--duration", "10m")
    publishers = [world.join(PUBLISHER, room_of(client), *published), world.join(pop, room_of(pop), *published, door=pop)]
    # In turn, so that both meet the same moods of the machine.
    visits = [(first_picture_ms(world, pop, pop), first_picture_ms(world, client, pop)) for _ in range(RUNS)]
    for publisher in publishers:
        publisher.leave()
    local, times = (list(of_host) for of_host in zip(*visits, strict=True))
    # On one host every round trip is nothing, but the page waits for slower probes as it does elsewhere.
    page_ms = quantile(local, 0.5) - GRACE_MS
    floor_ms = OWN_ROUND_TRIPS * RTT_MS[client][pop] + GRACE_MS + PHASES[-1].floor_ms(client)
    goal_ms = MULTIPLE * (floor_ms + page_ms)
    p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
    print(
        f"Chromium near {pop}, publisher in panama: p50 {p50:.0f} ms, p95 {p95:.0f} ms in {RUNS} visits; "
        f"{goal_ms:.0f} ms allowed: {MULTIPLE} times the floor of {floor_ms:.0f} ms and the page's {page_ms:.0f} ms without a network"
    )
    return p50 <= goal_ms


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
