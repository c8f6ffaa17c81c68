"""How long joining takes, from the first request to the first decodable picture of someone in another PoP, for clients near
each PoP; beside it the floor: the round trips that the present way of joining needs, with no time spent in any process."""

import math
import statistics
import sys
from dataclasses import dataclass

from wan import NEAREST, World, note, running_world

JOINS_PER_CLIENT = 6
STAY = ("--video-slots", "1", "--audio-slots", "1", "--duration", "6s")
ROOM = "join-time"
PUBLISHER, PUBLISHER_SEEN_BY = "client-bogota", "client-milan"
JOINING = {"client-milan": "zurich", "client-jakarta": "singapore"}
"""Their nearest PoPs; the publisher is near panama."""
RTT_MS = {
    "client-milan": {"panama": 148, "singapore": 178, "zurich": 12},
    "client-jakarta": {"panama": 264, "singapore": 18, "zurich": 184},
    "zurich": {"panama": 140},
    "singapore": {"panama": 250},
    "client-bogota": {"panama": 22},
}
"""As loadtest/scenarios/three-pops.toml has them."""
GRACE_MS = 40
"""For which the probes of farther PoPs may go on once the nearest has answered all of its own: MIN_GRACE_MS of the web app's SDK,
whose way of joining the load tester's is."""
FLOOR_MULTIPLE = 1.5


@dataclass(frozen=True)
class Phase:
    """A part of joining that waits for the network."""

    name: str
    ends: str
    """The key of the client's report."""
    own: int = 0
    """Round trips to the client's PoP. Below zero: begun so much before the phase that comes before has ended."""
    between: int = 0
    """Between the client's PoP and the publisher's."""
    publisher: int = 0
    """Between the publisher and its PoP."""
    waits_ms: float = 0
    """For no answer but for the time to pass."""
    saved: str = ""
    """What could do without some of it."""

    def floor_ms(self, client: str) -> float:
        """The least it can take."""
        pop = JOINING[client]
        return (
            self.own * RTT_MS[client][pop]
            + self.between * RTT_MS[pop]["panama"]
            + self.publisher * RTT_MS[PUBLISHER]["panama"]
            + self.waits_ms
        )


FIRST_PICTURE_SAVED = "1 to the publisher: its node keeps a keyframe; 1 between PoPs: nodes know of rooms that they are not in"
"""Nodes tell each other who is in a room once someone joins there, beside the offer, ICE and DTLS: half a round trip to say that
the node has the room now, half for what is published in it, half to ask for that, half until it arrives."""
PHASES = (
    Phase("PoPs and probes", "pops_ms", own=2 + 3, waits_ms=GRACE_MS, saved="the grace: for a kept ranking"),
    Phase("token", "token_ms", own=1),
    Phase("socket", "socket_ms", own=2, saved="1: one connection for all requests (HTTP/2)"),
    Phase("hello and offer", "answer_ms", own=1),
    Phase("ICE", "ice_ms", own=1),
    Phase("DTLS", "dtls_ms", own=2, saved="1: DTLS 1.3"),
    Phase("first picture", "first_frame_ms", own=-3, between=2, publisher=1, saved=FIRST_PICTURE_SAVED),
)


def quantile(values: list[float], share: float) -> float:
    """The least value that at least this share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def tell(client: str, joins: list[dict]) -> None:
    """Where the time goes."""
    before = [0.0] * len(joins)
    for phase in PHASES:
        ends = [join[phase.ends] for join in joins]
        took = statistics.median(end - begin for begin, end in zip(before, ends, strict=True))
        note(f"{client} {phase.name}: p50 {took:.0f} ms, floor {phase.floor_ms(client):.0f} ms; {phase.saved}")
        before = ends


def join(world: World, client: str) -> dict:
    """One join and its phases; it must be by the nearest PoP and see the publisher."""
    report = world.join(client, ROOM, *STAY).report()
    if report["pop"] != JOINING[client] or report["join"]["first_frame_ms"] is None:
        raise SystemExit(f"{client} has joined by {report['pop']} and seen {report['join']}")
    note(f"{client}: {report['join']}")
    return report["join"]


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    publisher = world.join(PUBLISHER, ROOM, "--publish", "audio,video", "--simulcast", "--duration", "10m")
    # Who comes first waits for the publisher, who is joining too.
    join(world, PUBLISHER_SEEN_BY)
    joins: dict[str, list[dict]] = {client: [] for client in JOINING}
    for _ in range(JOINS_PER_CLIENT):
        # One at a time: whoever comes second to a PoP finds the picture there already.
        for client in JOINING:
            joins[client].append(join(world, client))
    publisher.leave()
    figures, good = [], True
    for client, of_client in joins.items():
        tell(client, of_client)
        times = [join["first_frame_ms"] for join in of_client]
        floor_ms = sum(phase.floor_ms(client) for phase in PHASES)
        p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
        good = good and p50 <= FLOOR_MULTIPLE * floor_ms
        figures.append(f"{client} by {NEAREST[client]} p50 {p50:.0f} ms, p95 {p95:.0f} ms, floor {floor_ms:.0f} ms")
    count = sum(map(len, joins.values()))
    print(f"{count} joins to the first picture from panama: {'; '.join(figures)}")
    return good


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
