"""A stream crosses the link between two PoPs once, however many watch it behind the link, and not at all while nobody does. The
figure is what the emulated link itself has delivered, not what the nodes say that they sent. It counts only if each who watches
sees the high layer fluently until they leave: packets that are sent on to one alone cross the link once too."""

import sys
import time
from dataclasses import dataclass

from wan import Client, Rate, World, note, pictures, running_world, wait_until

FROM, TO = "panama", "zurich"
PUBLISHER, RECEIVER = "client-bogota", "client-milan"
RECEIVERS = (1, 2, 5)
MEASURED_S = 20
MAX_SPREAD_PERCENT = 3.0
HIGH_PX = 720
LEAST_FPS = 24.0
"""Of the 30 that are sent, from each receiver's first frame to its goodbye: layers change while it settles."""
MAX_FREEZE_MS = 1000
AUDIO_MARGIN = 1.2
"""A voice's bytes follow what is said: two pieces of speech differ. The lowest picture alone would add three times as much."""
FLOWS_WITHIN_S = 20
SETTLE_S = 12
"""Until every receiver's path is known to carry the high layer. Before that receivers watch different layers, and each of those
has to cross."""
WATCHES = ("--video-slots", "1")
ONLY_LISTENS = ("--video-slots", "0")
STAYS_ON = ("--duration", "10m")


def publish(world: World, room: str, published: str) -> Client:
    """Someone who publishes, in three layers if it is a picture."""
    return world.join(PUBLISHER, room, "--publish", published, "--simulcast", *STAYS_ON)


def receive(world: World, room: str, count: int, *flags: str) -> list[Client]:
    """That many who receive."""
    return [world.join(RECEIVER, room, *flags, *STAYS_ON) for _ in range(count)]


def settled_rate(world: World, everyone: list[Client]) -> Rate:
    """What crosses the link once media flows and everyone has joined."""
    voice_packets_per_s = 50
    flows = wait_until(lambda: world.rate(FROM, TO, 1).packets > 0.8 * voice_packets_per_s, FLOWS_WITHIN_S)
    if flows is None or not all(client.is_there() for client in everyone):
        raise SystemExit(f"nothing flows from {FROM} to {TO} within {FLOWS_WITHIN_S} s, or a client has ended")
    time.sleep(SETTLE_S)
    return world.rate(FROM, TO, MEASURED_S)


@dataclass(frozen=True)
class Watched:
    """What crossed the link and what came of it."""

    rates: list[float]
    """Packets a second for one publisher and more and more receivers."""
    least_fps: float
    """Of the receiver that saw the fewest."""
    longest_freeze_ms: float
    """Of any receiver."""
    all_high: bool
    """Whether each saw the high layer last, since before the last measurement."""


def seen_by(receiver: Client) -> dict:
    """Ends the stay of a receiver; what it saw."""
    picture, *_ = pictures(receiver.leave()) or [None]
    if picture is None:
        raise SystemExit("a receiver has seen nothing")
    return picture


def watched(world: World) -> Watched:
    """Measures the link with more and more receivers, then asks each what it saw."""
    room = "link-once"
    publisher = publish(world, room, "audio,video")
    receivers: list[Client] = []
    rates = []
    for count in RECEIVERS:
        receivers += receive(world, room, count - len(receivers), *WATCHES)
        rate = settled_rate(world, [publisher, *receivers])
        note(f"{count} receivers: {rate.packets:.1f} packets/s, {rate.bytes / 1000:.1f} kB/s")
        rates.append(rate.packets)
    seen = [seen_by(receiver) for receiver in receivers]
    note(f"seen: {seen}; sent: {publisher.leave()['sent']}")
    return Watched(
        rates,
        least_fps=min(picture["frames_per_second"] for picture in seen),
        longest_freeze_ms=max(picture["longest_freeze_ms"] for picture in seen),
        all_high=all(p["height"] == HIGH_PX and p["size_stood_ms"] >= 1000 * MEASURED_S for p in seen),
    )


def rate_without_viewers(world: World, published: str) -> Rate:
    """What crosses while two listen and nobody watches."""
    room = f"unwatched-{published.replace(',', '-')}"
    everyone = [*receive(world, room, 2, *ONLY_LISTENS), publish(world, room, published)]
    rate = settled_rate(world, everyone)
    note(f"nobody watches, published {published}: {rate.packets:.1f} packets/s, {rate.bytes / 1000:.2f} kB/s")
    for client in everyone:
        client.leave()
    return rate


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    of_viewers = watched(world)
    without_camera, with_camera = (rate_without_viewers(world, what) for what in ("audio", "audio,video"))
    spread = 100 * (max(of_viewers.rates) / min(of_viewers.rates) - 1)
    bound = AUDIO_MARGIN * without_camera.bytes
    counted = ", ".join(f"{rate:.0f}" for rate in of_viewers.rates)
    print(
        f"{counted} packets/s for {', '.join(map(str, RECEIVERS))} receivers, {spread:.1f} % apart; "
        f"{'each' if of_viewers.all_high else 'NOT each'} sees {HIGH_PX} px, {of_viewers.least_fps:.1f} frames/s or more, "
        f"longest freeze {of_viewers.longest_freeze_ms:.0f} ms; without a viewer {with_camera.bytes / 1000:.1f} kB/s, "
        f"and {without_camera.bytes / 1000:.1f} from someone without a camera"
    )
    fluent = of_viewers.least_fps >= LEAST_FPS and of_viewers.longest_freeze_ms <= MAX_FREEZE_MS
    return spread <= MAX_SPREAD_PERCENT and with_camera.bytes <= bound and of_viewers.all_high and fluent


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
