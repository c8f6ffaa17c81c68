"""Clients are taken to the PoP that is nearest by the emulated network, 20 times out of 20 by the load tester and 6 out of 6 by
Chromium with the web app. For each run the delays between clients and PoPs are drawn anew from the run's seed, while addresses,
names and what the directory has learnt stay as they were: a table of geography, a fixed order or an old measurement leads to the
wrong PoP. Chromium opens the door of a PoP that is not the nearest, so that staying there is wrong too."""

import random
import sys

from cluster import POPS
from wan import NEAREST, World, note, running_world
from wan_browser import browsing

RUNS, BROWSER_RUNS = 20, 6
CONNECTED_WITHIN_S = 20
NEAR_RTT_MS, MIDDLE_RTT_MS, FAR_RTT_MS = (8, 40), (80, 160), (170, 270)
"""Ranges as of real paths within a region, over one ocean and over two; jitter is 3 ms."""


def draw_delays(world: World, client: str, chance: random.Random) -> str:
    """Puts the client somewhere else; returns the PoP that is nearest there."""
    round_trips = [chance.uniform(*spread) for spread in (NEAR_RTT_MS, MIDDLE_RTT_MS, FAR_RTT_MS)]
    pops = chance.sample(POPS, len(POPS))
    for pop, rtt_ms in zip(pops, round_trips, strict=True):
        world.set_link(client, pop, "--one-way-ms", f"{rtt_ms / 2:.1f}")
    return pops[0]


def run(world: World, seed: int) -> bool:
    """Whether every client chooses the nearest PoP with the delays of this seed."""
    chance = random.Random(seed)
    nearest = {client: draw_delays(world, client, chance) for client in NEAREST}
    asked = chance.choice(POPS)
    stays = {client: world.join(client, f"nearest-{seed}", "--duration", "200ms", door=asked) for client in NEAREST}
    reports = {client: stay.report() for client, stay in stays.items()}
    wrong = {client: report["probes"] for client, report in reports.items() if report["pop"] != nearest[client]}
    note(f"seed {seed}, asked {asked}, nearest {nearest}, wrong {wrong}")
    return not wrong


def run_browser(world: World, seed: int) -> bool:
    """Whether Chromium ends up at the nearest PoP with the delays of this seed."""
    chance = random.Random(seed)
    client = chance.choice(list(NEAREST))
    nearest = draw_delays(world, client, chance)
    opened = chance.choice([pop for pop in POPS if pop != nearest])
    with browsing(world.hosts[client]) as page:
        page.join(world.url(opened), f"nearest-browser-{seed}")
        chosen = page.connected_to(CONNECTED_WITHIN_S)
    note(f"seed {seed}, {client} opened {opened}, nearest {nearest}, connected to {chosen}")
    return chosen == nearest


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    right = sum(run(world, seed) for seed in range(RUNS))
    right_in_browser = sum(run_browser(world, seed) for seed in range(RUNS, RUNS + BROWSER_RUNS))
    print(
        f"{right} of {RUNS} runs: all {len(NEAREST)} clients chose the PoP nearest by emulated delay; "
        f"{right_in_browser} of {BROWSER_RUNS} by Chromium from the door of another PoP"
    )
    return right == RUNS and right_in_browser == BROWSER_RUNS


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
