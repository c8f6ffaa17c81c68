"""A path between two PoPs that carries less than what is shown over it: speech goes before pictures and is hardly later than on
an empty path, pictures take what is left, and the queue before the bottleneck does not stand."""

import sys
import time

from listening import Listener, counters, quantile, quiet_last_miles
from wan import NEAREST, World, note, pictures, running_world

SPEAKER, LISTENER = "client-bogota", "client-jakarta"
FROM, TO = NEAREST[SPEAKER], NEAREST[LISTENER]
ROOM = "relay-bottleneck"
CAMERAS = 2
RATE_MBPS, QUEUE_MS = 1.5, 1000
"""Two cameras of the load tester take more; the queue is one of those that hold whole seconds."""
SETTLES_S = 10
EMPTY_S = 15
MEASURED_S = 40
MAX_LOST_PERCENT = 1.0
MAX_ADDED_P95_MS = 150.0
LEAST_USED = 0.5


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    quiet_last_miles(world, SPEAKER, LISTENER, nearest=NEAREST)
    stays = ("--duration", "10m")
    everyone = [world.join(SPEAKER, ROOM, "--publish", "audio", "--video-slots", "0", *stays)]
    with Listener(world, LISTENER, TO, ROOM) as listener:
        time.sleep(SETTLES_S)
        empty = listener.during(EMPTY_S)
        world.set_link(FROM, TO, "--one-direction", "--rate-mbps", str(RATE_MBPS), "--queue-ms", str(QUEUE_MS))
        everyone += [world.join(SPEAKER, ROOM, "--publish", "video", "--audio-slots", "0", "--video-slots", "0", *stays)
                     for _ in range(CAMERAS)]
        watcher = world.join(LISTENER, ROOM, "--audio-slots", "0", "--video-slots", str(CAMERAS), *stays)
        time.sleep(SETTLES_S)
        before, traffic = counters(world, FROM), world.traffic(FROM, TO)
        full = listener.during(MEASURED_S)
        after = world.traffic(FROM, TO)
        sent = counters(world, FROM).since(before)
    seen = pictures(watcher.leave())
    for client in everyone:
        client.leave()
    used = 8 * (after.bytes - traffic.bytes) / (after.at_s - traffic.at_s) / (RATE_MBPS * 1e6)
    added = full.added_ms(empty)
    lost_percent = 100 * full.lost() / full.expected()
    offered = 8 * sent.sum("isthmus_rtp_bytes_total", direction="out", hop="relay") / MEASURED_S / 1e6
    note(f"seen: {seen}")
    print(
        f"{offered:.1f} Mbit/s of media into {RATE_MBPS} Mbit/s, {100 * used:.0f} % of it used: speech {lost_percent:.2f} % lost, "
        f"added delay p50 {quantile(added, 0.5):.0f} ms, p95 {quantile(added, 0.95):.0f} ms; dropped before the path: {sent.drops()}"
    )
    sound = sum(count for reason, count in sent.drops().items() if "sound" in reason)
    is_narrow = offered > RATE_MBPS and used >= LEAST_USED
    return is_narrow and lost_percent <= MAX_LOST_PERCENT and quantile(added, 0.95) <= MAX_ADDED_P95_MS and sound == 0


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
