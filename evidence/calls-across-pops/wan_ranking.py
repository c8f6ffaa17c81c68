"""The directory learns which PoP is nearest: after some joins `GET /v1/pops`, asked from a client's own network, lists first the
PoP that is nearest there, because clients of that network have measured it, at the doors of all three PoPs. The delays are drawn by
seed and the world's addresses have no place on any map, so neither geography nor a fixed order gets there."""

import random
import sys

from cluster import POPS
from wan import NEAREST, World, note, running_world, wait_until
from wan_nearest import draw_delays

SEEDS = (1, 2)
"""A world each: a network's measurements are kept for a day, and another draw would contradict them."""
ROUNDS = 6
LEARNT_WITHIN_S = 8
"""After a round of joins: the replicator's delay, and the least time between two samples of one network that count."""


def wrong(world: World, nearest: dict[str, str]) -> dict[str, list[str]]:
    """The lists that do not begin with the measured nearest PoP, by client and door."""
    lists = {f"{client} at {pop}": (client, world.listed(pop, asked_from=client)) for client in nearest for pop in POPS}
    return {
        who: [f"{entry['id']} {entry['rtt_ms']:.0f} ms {entry['rtt_source']}" for entry in listed]
        for who, (client, listed) in lists.items()
        if (listed[0]["id"], listed[0]["rtt_source"]) != (nearest[client], "measured")
    }


def rounds_until_learnt(world: World, seed: int) -> int | None:
    """How many joins of each client it takes; none if they were too many."""
    chance = random.Random(seed)
    nearest = {client: draw_delays(world, client, chance) for client in NEAREST}
    note(f"seed {seed}: nearest {nearest}; before any join {wrong(world, nearest)}")
    for count in range(1, ROUNDS + 1):
        door = chance.choice(POPS)
        stays = [world.join(client, f"ranking-{count}", "--duration", "200ms", door=door) for client in nearest]
        for stay in stays:
            stay.report()
        if wait_until(lambda: not wrong(world, nearest), LEARNT_WITHIN_S, every_s=0.5) is not None:
            return count
        note(f"seed {seed}: after {count} joins by way of {door} wrong: {wrong(world, nearest)}")
    return None


def check() -> bool:
    """Prints the figure; returns whether it is good enough."""
    took = []
    for seed in SEEDS:
        with running_world() as world:
            took.append(rounds_until_learnt(world, seed))
    learnt = ["never" if rounds is None else f"after {rounds} joins each" for rounds in took]
    print(f"{len(NEAREST)} clients, {len(POPS)} doors: nearest first by measurement {', '.join(learnt)}")
    return None not in took


if __name__ == "__main__":
    sys.exit(not check())
