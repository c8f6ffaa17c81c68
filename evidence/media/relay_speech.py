"""Speech from Panama to Singapore, 250 ms there and back and 2 % loss: what the link loses is there again with the next packet,
because it was sent ahead, and not a round trip later, because it was asked for. The delay is measured against the same path
without loss in the same run, over all packets and over those that the link lost and the relay brought back."""

import sys
import time

from listening import Listener, counters, quantile, quiet_last_miles
from wan import NEAREST, World, note, running_world

SPEAKER, LISTENER = "client-bogota", "client-jakarta"
FROM, TO = NEAREST[SPEAKER], NEAREST[LISTENER]
ROOM = "relay-speech"
LOSS = 0.02
WITHOUT_LOSS_S = 20
LEARNS_S = 5
"""From the first loss until the nodes know the path; nothing is protected before."""
WITH_LOSS_S = 120
MAX_LOST_PERCENT = 0.2
MAX_ADDED_P95_MS = 40.0
LATE_MS = 10.0
"""Who comes so much later than usual was lost at first; packets of speech are 20 ms apart."""


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    quiet_last_miles(world, SPEAKER, LISTENER, nearest=NEAREST)
    speaker = world.join(SPEAKER, ROOM, "--publish", "audio", "--audio-slots", "1", "--duration", "10m")
    with Listener(world, LISTENER, TO, ROOM) as listener:
        time.sleep(LEARNS_S)
        before, link_before = counters(world, FROM), world.traffic(FROM, TO)
        clean = listener.during(WITHOUT_LOSS_S)
        clean_bytes_per_s = (world.traffic(FROM, TO).bytes - link_before.bytes) / WITHOUT_LOSS_S
        ahead_when_clean = counters(world, FROM).since(before).sum("isthmus_relay_redundant_bytes_total")
        world.set_link(FROM, TO, "--loss", str(LOSS))
        time.sleep(LEARNS_S)
        sent_before, got_before, link_before = counters(world, FROM), counters(world, TO), world.traffic(FROM, TO)
        lossy = listener.during(WITH_LOSS_S)
        lossy_bytes_per_s = (world.traffic(FROM, TO).bytes - link_before.bytes) / WITH_LOSS_S / (1 - LOSS)
        sent, got = counters(world, FROM).since(sent_before), counters(world, TO).since(got_before)
    report = speaker.leave()
    note(f"without loss: {clean_bytes_per_s:.0f} bytes/s on the link, {ahead_when_clean:.0f} bytes sent ahead, "
         f"{clean.lost()} of {clean.expected()} lost, added p95 {quantile(clean.added_ms(clean), 0.95):.1f} ms")
    note(f"speaker: {report['sent']}; drops at {FROM}: {sent.drops()}, at {TO}: {got.drops()}")
    outcome = {name: int(got.sum("isthmus_relay_speech_total", outcome=name))
               for name in ("arrived", "restored", "repeated", "lost")}
    redundant = sent.sum("isthmus_relay_redundant_bytes_total")
    payload = sent.sum("isthmus_rtp_bytes_total", direction="out", hop="relay")
    missed = outcome["restored"] + outcome["repeated"] + outcome["lost"]
    added = lossy.added_ms(clean)
    late = [by for by in added if by > LATE_MS]
    lost_percent = 100 * lossy.lost() / lossy.expected()
    late_p95 = quantile(late, 0.95) if late else 0.0
    note(f"at {TO}: {outcome}; added, latest last: {[round(by) for by in sorted(late)]}")
    print(
        f"{lossy.expected()} packets of speech, the link lost {100 * missed / sum(outcome.values()):.2f} %: after repair "
        f"{lost_percent:.3f} % lost, added delay p50 {quantile(added, 0.5):.1f} ms, p95 {quantile(added, 0.95):.1f} ms over all, "
        f"p50 {quantile(late, 0.5) if late else 0:.1f} ms, p95 {late_p95:.1f} ms over the {len(late)} brought back; "
        f"sent ahead {redundant:.0f} bytes, {100 * redundant / payload:.0f} % of the payloads' {payload:.0f}, which made the link's "
        f"traffic {100 * (lossy_bytes_per_s / clean_bytes_per_s - 1):.0f} % more; none on a clean link"
        f"{'' if ahead_when_clean == 0 else f' NOT SO: {ahead_when_clean:.0f}'}"
    )
    was_lossy = missed >= 0.5 * LOSS * lossy.expected()
    in_time = max(quantile(added, 0.95), late_p95) <= MAX_ADDED_P95_MS
    return was_lossy and lost_percent <= MAX_LOST_PERCENT and in_time and ahead_when_clean == 0


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
