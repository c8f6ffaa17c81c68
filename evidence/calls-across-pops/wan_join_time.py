"""How long joining takes, from the first request to the first decodable picture of someone in another PoP, for clients near
each PoP; beside it the floor: the round trips that the present way of joining needs, with no time spent in any process."""

import statistics
import sys
from dataclasses import dataclass

from wan import NEAREST, World, note, running_world

JOINS_PER_CLIENT = 6
STAY = ("--video-slots", "1", "--audio-slots", "1", "--duration", "6s")
PUBLISHER = "client-bogota"
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
FLOOR_MULTIPLE = 2.0


@dataclass(frozen=True)
class Phase:
    """A part of joining that waits for the network."""

    name: str
    ends: str
    """The key of the client's report."""
    own: int = 0
    """Round trips to the client's PoP."""
    farthest: int = 0
    """To the farthest PoP that is probed."""
    between: int = 0
    """Between the client's PoP and the publisher's."""
    publisher: int = 0
    """Between the publisher and its PoP."""
    saved: str = ""
    """What could do without some of them."""

    def floor_ms(self, client: str) -> float:
        """The least it can take."""
        pop = JOINING[client]
        return (
            self.own * RTT_MS[client][pop]
            + self.farthest * max(RTT_MS[client].values())
            + self.between * RTT_MS[pop]["panama"]
            + self.publisher * RTT_MS[PUBLISHER]["panama"]
        )


PHASES = (
    Phase("PoPs and probes", "pops_ms", own=2, farthest=5, saved="5 to the farthest: stop once the nearest has answered"),
    Phase("report and token", "token_ms", own=2, saved="1: do not wait for the report"),
    Phase("socket", "socket_ms", own=2, saved="1: one connection for all requests (HTTP/2)"),
    Phase("hello", "welcome_ms", own=1, saved="1: hello and offer at once"),
    Phase("offer", "answer_ms", own=1),
    Phase("ICE", "ice_ms", own=1),
    Phase("DTLS", "dtls_ms", own=2, saved="1: DTLS 1.3"),
    Phase("first picture", "first_frame_ms", between=1, publisher=1, saved="1: the publisher's node keeps a keyframe"),
)


def quantile(values: list[float], share: float) -> float:
    """The least value that at least this share does not exceed."""
    return sorted(values)[max(0, round(share * len(values) + 0.5) - 1)]


def tell(client: str, joins: list[dict]) -> None:
    """Where the time goes."""
    before = [0.0] * len(joins)
    for phase in PHASES:
        ends = [join[phase.ends] for join in joins]
        took = statistics.median(end - begin for begin, end in zip(before, ends, strict=True))
        note(f"{client} {phase.name}: p50 {took:.0f} ms, floor {phase.floor_ms(client):.0f} ms; {phase.saved}")
        before = ends


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    room = "join-time"
    publisher = world.join(PUBLISHER, room, "--publish", "audio,video", "--simulcast", "--duration", "10m")
    joins: dict[str, list[dict]] = {client: [] for client in JOINING}
    for _ in range(JOINS_PER_CLIENT):
        # One at a time: whoever comes second to a PoP finds the picture there already.
        for client in JOINING:
            report = world.join(client, room, *STAY).report()
            if report["pop"] != JOINING[client] or report["join"]["first_frame_ms"] is None:
                raise SystemExit(f"{client} has joined by {report['pop']} and seen {report['join']}")
            joins[client].append(report["join"])
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
