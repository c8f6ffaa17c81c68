"""Someone who listens in another PoP and writes down every packet of speech, and what the nodes' own counters say of the link.
The listener is aiortc, in the network namespace of a client; the clock is the machine's, so that nothing is to be synchronised."""

import asyncio
import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "calls-across-pops"))

import aiohttp
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from calls import Session
from cluster import POPS, program
from wan import BASE_PORT, PORTS_PER_POP, World, wait_until

CLOCK_HZ = 48_000
HEARD_WITHIN_S = 20
NODE_OPS_OFFSET = 3
"""Of the media node's listener for operators, from its PoP's first port."""
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Packet:
    """A packet of speech as it came to the listener."""

    sequence: int
    timestamp: int
    at_s: float

    @property
    def transit_s(self) -> float:
        """From when it was spoken, by its own timestamp, to its arrival: right but for a constant."""
        return self.at_s - self.timestamp / CLOCK_HZ


@dataclass
class Speech:
    """Packets of one stream in the order in which they came, numbered without wrapping."""

    packets: list[Packet] = field(default_factory=list)
    ssrcs: set[int] = field(default_factory=set)

    def note(self, ssrc: int, sequence: int, timestamp: int) -> None:
        """One more has come."""
        at_s = time.monotonic()
        self.ssrcs.add(ssrc)
        if self.packets:
            before = self.packets[-1]
            sequence = before.sequence + _signed(sequence - before.sequence, 16)
            timestamp = before.timestamp + _signed(timestamp - before.timestamp, 32)
        self.packets.append(Packet(sequence, timestamp, at_s))

    def between(self, start_s: float, end_s: float) -> "Speech":
        """Those that came in a stretch of time."""
        return Speech([packet for packet in self.packets if start_s <= packet.at_s < end_s], self.ssrcs)

    def expected(self) -> int:
        """How many were sent from the first to the last of these."""
        numbers = [packet.sequence for packet in self.packets]
        return max(numbers) - min(numbers) + 1

    def lost(self) -> int:
        """How many of them did not come."""
        return self.expected() - len({packet.sequence for packet in self.packets})

    def added_ms(self, base: "Speech") -> list[float]:
        """By how much each came later than the middle one of `base`."""
        usual = quantile([packet.transit_s for packet in base.packets], 0.5)
        return [1000 * (packet.transit_s - usual) for packet in self.packets]


def _signed(difference: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (difference + half) % (1 << bits) - half


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Listener:
    """Listens by WHEP on a host until it is told to stop."""

    def __init__(self, world: World, host: str, pop: str, room: str) -> None:
        self.speech = Speech()
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        config = str(world.state / f"{pop}.toml")
        command = [program(), "token", "--config", config, "--room", room, "--identity", host]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        listen = lambda: asyncio.run(self._listen(world.url(pop), room, token))  # noqa: E731
        self._thread = threading.Thread(target=self._run, args=(world, host, listen), daemon=True)

    def _run(self, world: World, host: str, listen: Callable[[], None]) -> None:
        try:
            world.hosts[host].inside(listen)
        except BaseException as problem:  # noqa: BLE001, whatever it is, it is told by the thread that waits
            self._problem = problem

    async def _listen(self, door: str, room: str, token: str) -> None:
        async with aiohttp.ClientSession() as http:
            session = await Session.play(http, door, room, token)
            while not self._stop.is_set():
                await asyncio.sleep(0.1)
            await session.delete()

    def __enter__(self) -> Self:
        handle = RTCRtpReceiver._handle_rtp_packet
        speech = self.speech

        async def noting(receiver: RTCRtpReceiver, packet: object, arrival_time_ms: int) -> None:
            if receiver._RTCRtpReceiver__kind == "audio":
                speech.note(packet.ssrc, packet.sequence_number, packet.timestamp)
            await handle(receiver, packet, arrival_time_ms)

        RTCRtpReceiver._handle_rtp_packet = noting
        self._thread.start()
        if wait_until(lambda: len(speech.packets) > 50 or self._problem is not None, HEARD_WITHIN_S) is None:
            raise SystemExit(f"nothing was heard within {HEARD_WITHIN_S} s")
        if self._problem is not None:
            raise SystemExit(f"the listener could not listen: {self._problem!r}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(HEARD_WITHIN_S)

    def during(self, seconds: float) -> Speech:
        """What is heard from now on."""
        start_s = time.monotonic()
        time.sleep(seconds)
        heard = self.speech.between(start_s, time.monotonic())
        if len(heard.packets) < 2:
            raise SystemExit(f"nothing was heard for {seconds:.0f} s")
        return heard


@dataclass(frozen=True)
class Counters:
    """A node's counters at a moment."""

    samples: dict[str, float]

    def since(self, before: "Counters") -> "Counters":
        """What was counted between two moments."""
        return Counters({name: value - before.samples.get(name, 0.0) for name, value in self.samples.items()})

    def sum(self, family: str, **labels: str) -> float:
        """The samples of a family that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        named = [(name, value) for name, value in self.samples.items() if name.partition("{")[0] == family]
        return sum(value for name, value in named if all(label in name for label in wanted))

    def drops(self) -> dict[str, int]:
        """What the relay dropped, by reason."""
        named = {name: value for name, value in self.samples.items() if 'reason="relay_' in name and value}
        return {re.sub(r'.*reason="(\w+)".*', r"\1", name): int(value) for name, value in named.items()}


def counters(world: World, pop: str) -> Counters:
    """What the media node of the PoP counts, without any of the emulated delay."""
    host = world.hosts[pop]
    port = BASE_PORT + PORTS_PER_POP * POPS.index(pop) + NODE_OPS_OFFSET

    def read() -> str:
        connection = http.client.HTTPConnection(host.address, port, timeout=5)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    found = _SAMPLE.findall(host.inside(read))
    return Counters({f"{name}{{{labels}}}": float(value) for name, labels, value in found})


def quiet_last_miles(world: World, *clients: str, nearest: dict[str, str]) -> None:
    """Takes loss and jitter from the paths between clients and their PoPs: the check is of what lies between PoPs."""
    for client in clients:
        world.set_link(client, nearest[client], "--loss", "0", "--jitter-ms", "0")
