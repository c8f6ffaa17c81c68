"""While two people are in a call between panama and zurich, everything is thrown at the cluster that must be refused: forged
tokens, oversized and broken requests and messages, foreign pages, rubbish at every port. Each refusal must be the documented
one, no process may die, and the call may lose nothing."""

import asyncio
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import rubbish
from attacks import Attack, Attacker
from calls import Caller, Peer, Reception
from cluster import Cluster, running_cluster

ROOM = "refusals"
SEED = 20240607
DATAGRAMS_PER_PORT = 10_000
DATAGRAMS_OF_A_CALL = 2_000
BABBLE_EVERY_S = 0.004
FIRST_FRAMES_WITHIN_S = 20
POUR_WITHIN_S = 180


async def refused(attacks: list[Attack]) -> list[str]:
    """Tries all of them, one after the other; returns what was not refused as documented."""
    wrong = []
    for attack in attacks:
        try:
            got = await attack.attempt()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            got = f"no answer: {error!r}"
        if got != attack.wanted:
            wrong.append(f"{attack.name}: wanted {attack.wanted}, got {got}")
    return wrong


async def pour_rubbish(cluster: Cluster, ufrag: str) -> str:
    """Rubbish to every port of every process; returns how much."""
    ports = [f"{port.protocol}:{port.number}" for port in cluster.ports()]
    script = str(Path(__file__).with_name("rubbish.py"))
    command = [sys.executable, script, str(SEED), str(DATAGRAMS_PER_PORT), ufrag, *ports]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), POUR_WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError("rubbish.py failed; a port that refuses connections has lost its process")
    return output.decode().strip()


async def babble(peer: Peer, ufrag: str) -> None:
    """Rubbish from the call's own address, which the media node has validated: what a forger of addresses could send, and the
    one kind that gets as far as DTLS and SRTP. aiortc offers no public way to send it."""
    rng, ice = random.Random(SEED), peer.connection.getSenders()[0].transport.transport
    for number in range(DATAGRAMS_OF_A_CALL):
        await ice._send(rubbish.LIKE[number % len(rubbish.LIKE)](rng, ufrag))
        await asyncio.sleep(BABBLE_EVERY_S)


async def unready(http: aiohttp.ClientSession, cluster: Cluster) -> list[str]:
    """The processes that do not say that they are ready."""
    late = []
    for url in cluster.readiness_urls():
        async with http.get(url) as response:
            if response.status != 200:
                late.append(f"{url} answers {response.status}")
    return late


@dataclass
class Call:
    """A call that is watched."""

    callers: list[Caller]

    @property
    def received(self) -> list[Reception]:
        """Everything that anyone in it hears and sees."""
        return [reception for caller in self.callers for reception in (caller.peer.heard, caller.peer.seen)]

    async def packets_lost(self) -> int:
        """Over everything received."""
        return sum([await caller.peer.packets_lost() for caller in self.callers])

    def longest_gap_ms(self, start: float, end: float) -> float:
        """In whichever voice or picture it was."""
        return max(reception.longest_gap_ms(start, end) for reception in self.received)

    def damage(self, start: float, end: float) -> list[str]:
        """Whole seconds without a single frame of a voice or a picture, and sockets that were closed."""
        missing = 0
        for reception in self.received:
            frames = Counter(int(time - start) for time in reception.within(start, end))
            missing += sum(frames[second] == 0 for second in range(int(end - start)))
        closed = sum(caller.socket.closed for caller in self.callers)
        return [f"{missing} seconds of the call are missing"] * bool(missing) + ["the call lost a socket"] * closed


async def storm(http: aiohttp.ClientSession, cluster: Cluster, call: Call) -> tuple[list[str], str]:
    """Everything at once; returns what went wrong, and the figure."""
    loop, pids, template = asyncio.get_running_loop(), cluster.pids(), Peer(sends=True, receives=True)
    attacker = Attacker(http, cluster, "panama", ROOM, await template.offer())
    attacks, target = attacker.all(), call.callers[0].peer
    (ufrag, *_) = re.findall(r"a=ice-ufrag:(\S+)", target.connection.remoteDescription.sdp)
    start, lost_before = loop.time(), await call.packets_lost()
    wrong, poured, _ = await asyncio.gather(refused(attacks), pour_rubbish(cluster, ufrag), babble(target, ufrag))
    end, lost = loop.time(), await call.packets_lost() - lost_before
    await template.close()

    after = cluster.pids()
    died = [f"{name} died" for name, pid in pids.items() if after.get(name) != pid]
    problems = [*wrong, *await attacker.undocumented(), *died, *await unready(http, cluster), *call.damage(start, end)]
    problems += [f"the call lost {lost} packets"] if lost > 0 else []
    figure = (
        f"{len(attacks) - len(wrong)} of {len(attacks)} refusals as documented, {poured}, {len(died)} processes died, "
        f"longest media gap {call.longest_gap_ms(start, end):.0f} ms in {end - start:.0f} s, {lost} packets lost"
    )
    return problems, figure


async def check(cluster: Cluster) -> bool:
    """Prints what went wrong and the figure; returns whether nothing did."""
    async with aiohttp.ClientSession() as http:
        call = Call(
            [
                await Caller.join(http, cluster.url(pop), ROOM, cluster.token(ROOM, name), name)
                for pop, name in (("panama", "ana"), ("zurich", "max"))
            ]
        )
        for caller in call.callers:
            await caller.peer.first_frames(FIRST_FRAMES_WITHIN_S)
        problems, figure = await storm(http, cluster, call)
        for caller in call.callers:
            await caller.leave()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(figure)
    return not problems


if __name__ == "__main__":
    with running_cluster() as cluster:
        sys.exit(not asyncio.run(check(cluster)))
