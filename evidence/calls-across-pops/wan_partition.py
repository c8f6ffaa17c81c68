"""The path between two PoPs breaks while a third reaches both. Calls inside a PoP, and over the paths that are left, go on;
whoever is behind the break is seen to be gone in time, and is back after it has healed. Who is there is what the doors tell
clients on their signalling sockets; gaps are between pictures that aiortc has decoded."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import aiohttp
from calls import Reception, Session
from cluster import Cluster
from wan import World, note, running_world, wait_until

ONE, OTHER, THIRD = "panama", "zurich", "singapore"
NEAR = {ONE: "client-bogota", OTHER: "client-milan", THIRD: "client-jakarta"}
GONE_WITHIN_S, BACK_WITHIN_S = 2.0, 10.0
MAX_GAP_MS = 1000
"""A busy machine makes pauses of its own; what is asked is that no second is missing."""
BROKEN_S, AFTERWARDS_S = 8, 5
BEGINS_WITHIN_S = 30
ROSTER, CALL = "roster", "call"
"""The room of the observers, and that of the people with pictures."""


class Observer:
    """Someone in a room who sends and receives no media, and knows who else is there."""

    def __init__(self, door: str, pop: str) -> None:
        self.others: set[str] = set()
        self._door, self._pop = door, pop
        self._own = ""
        self._pop_of: dict[str, str] = {}

    async def stay(self, stopped: threading.Event) -> None:
        """Stays until it is told to stop."""
        hello = {"type": "hello", "version": 1, "room": ROSTER, "name": self._pop}
        async with aiohttp.ClientSession(self._door) as http:
            async with http.post(f"/v1/rooms/{ROSTER}/guests", json={"name": self._pop}) as response:
                hello["token"] = (await response.json())["token"]
            async with http.ws_connect("/v1/signal", protocols=["isthmus.v1"]) as socket:
                await socket.send_json(hello)
                while not stopped.is_set():
                    try:
                        self._take(await socket.receive_json(timeout=0.1))
                    except TimeoutError:
                        continue
                await socket.send_json({"type": "leave"})

    def _take(self, message: dict) -> None:
        match message["type"]:
            case "welcome":
                self._own = message["participant"]
                self._pop_of = {there["id"]: there["pop"] for there in message["participants"]}
            case "participant":
                self._pop_of[message["participant"]["id"]] = message["participant"]["pop"]
            case "left":
                self._pop_of.pop(message["participant"], None)
            case "ended" | "error":
                raise RuntimeError(f"the observer at {self._pop} is thrown out: {message}")
        others = {pop for participant, pop in self._pop_of.items() if participant != self._own}
        if others != self.others:
            self.others = others
            note(f"{time.monotonic():.2f}: {self._pop} sees {sorted(self.others)}")


class Person:
    """Someone who shows a picture by WHIP, or sees the room's by WHEP."""

    def __init__(self, door: str, token: str) -> None:
        self.seen = Reception()
        self._door, self._token = door, token

    async def show(self, stopped: threading.Event) -> None:
        """Publishes until told to stop."""
        async with aiohttp.ClientSession() as http:
            await self._stay(await Session.publish(http, self._door, CALL, self._token), stopped)

    async def look(self, stopped: threading.Event) -> None:
        """Receives until told to stop."""
        async with aiohttp.ClientSession() as http:
            # Four codecs in one busy process make an estimate of the process and not of the path.
            await self._stay(await Session.play(http, self._door, CALL, self._token, estimates=False), stopped)

    async def _stay(self, session: Session, stopped: threading.Event) -> None:
        self.seen = session.peer.seen
        while not stopped.is_set():
            await asyncio.sleep(0.1)
        await session.delete()


@contextmanager
def staying(world: World, pop: str, stay: Callable[[threading.Event], Coroutine[None, None, None]]) -> Iterator[None]:
    """Lets someone stay in a room, on the host near the PoP, for as long as the block lasts."""
    stopped = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        over = pool.submit(world.hosts[NEAR[pop]].inside, lambda: asyncio.run(stay(stopped)))
        try:
            yield
        finally:
            stopped.set()
        over.result()


def seconds_until(what: str, holds: Callable[[], bool], within_s: float) -> float:
    """How long it takes until it holds; infinite if it does not in time."""
    took_s = wait_until(holds, within_s, every_s=0.01)
    note(f"{time.monotonic():.2f}: {what} " + ("too late" if took_s is None else f"after {took_s:.2f} s"))
    return float("inf") if took_s is None else took_s


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    cluster = Cluster(world.state)
    observers = {pop: Observer(world.url(pop), pop) for pop in NEAR}
    publisher = Person(world.url(ONE), cluster.token(CALL, "publisher"))
    viewers = {pop: Person(world.url(pop), cluster.token(CALL, f"viewer-{pop}")) for pop in NEAR}
    with ExitStack() as everyone:
        everyone.enter_context(staying(world, ONE, publisher.show))
        for pop in NEAR:
            everyone.enter_context(staying(world, pop, observers[pop].stay))
            everyone.enter_context(staying(world, pop, viewers[pop].look))

        def apart(pop: str, other: str) -> bool:
            return other not in observers[pop].others

        def together() -> bool:
            return all(observer.others == set(NEAR) - {pop} for pop, observer in observers.items())

        if wait_until(lambda: together() and all(v.seen.times for v in viewers.values()), BEGINS_WITHIN_S) is None:
            raise SystemExit(f"not everyone sees everyone within {BEGINS_WITHIN_S} s")
        time.sleep(AFTERWARDS_S)
        broken_at = time.monotonic()
        world.partition(ONE, OTHER)
        gone_s = seconds_until("both gone", lambda: apart(ONE, OTHER) and apart(OTHER, ONE), 3 * GONE_WITHIN_S)
        time.sleep(BROKEN_S)
        still_seen = observers[THIRD].others == {ONE, OTHER}
        healed_at = time.monotonic()
        world.heal(ONE, OTHER)
        back_s = seconds_until("both back", together, 3 * BACK_WITHIN_S)
        seconds_until("pictures back", lambda: viewers[OTHER].seen.times[-1] > healed_at, 3 * BACK_WITHIN_S)
        pictures_s = next((time_s - healed_at for time_s in viewers[OTHER].seen.times if time_s > healed_at), float("inf"))
        time.sleep(AFTERWARDS_S)
        end = time.monotonic()
        inside_ms, around_ms = (viewers[pop].seen.longest_gap_ms(broken_at, end) for pop in (ONE, THIRD))
    print(
        f"gone after {gone_s:.1f} s, back {back_s:.1f} s and pictures {pictures_s:.1f} s after healing; longest pause between "
        f"pictures {inside_ms:.0f} ms inside {ONE}, {around_ms:.0f} ms from {ONE} to {THIRD}"
        + ("" if still_seen else f"; {THIRD} lost sight of someone")
    )
    in_time = gone_s <= GONE_WITHIN_S and max(back_s, pictures_s) <= BACK_WITHIN_S
    return in_time and still_seen and max(inside_ms, around_ms) < MAX_GAP_MS


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
