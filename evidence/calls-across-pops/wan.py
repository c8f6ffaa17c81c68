"""An emulated world for one check: hosts in network namespaces with long paths between them, a PoP of three real processes on
each of three hosts, and clients near each. What a link carried is read from the link's own counters."""

import ctypes
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from cluster import POPS, READY_WITHIN_S, ROOT, program

BASE_PORT = 7100
PORTS_PER_POP = 100
NEAREST = {"client-bogota": "panama", "client-jakarta": "singapore", "client-milan": "zurich"}
"""The clients of the preset and the PoP near each."""
ENDS_WITHIN_S = 20
CLONE_NEWNET = 0x40000000
"""From sched.h, for setns(2)."""

T = TypeVar("T")


def loadtest() -> str:
    """The load tester: LOADTEST_BIN, else what was built beside the program under test."""
    chosen = os.environ.get("LOADTEST_BIN") or str(Path(program()).with_name("loadtest"))
    if not Path(chosen).exists():
        raise SystemExit("loadtest is not built: run `make build`, or say where it is in LOADTEST_BIN")
    return chosen


@dataclass(frozen=True)
class Host:
    """A host of the world."""

    namespace: str
    address: str

    def command(self, *words: str) -> list[str]:
        """A command line that runs there; the process that is started becomes the command itself."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def inside(self, work: Callable[[], T]) -> T:
        """Runs `work` on a thread in the host's namespace: the sockets it opens are there."""

        def enter() -> T:
            with Path("/run/netns", self.namespace).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")
            return work()

        # The thread ends with the pool, and nothing else ever runs on it.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(enter).result()


@dataclass(frozen=True)
class Traffic:
    """UDP that a link had delivered at a moment."""

    at_s: float
    packets: int
    bytes: int


@dataclass(frozen=True)
class Rate:
    """UDP that a link delivers, a second."""

    packets: float
    bytes: float


def pictures(report: dict) -> list[dict]:
    """What a client reports of each slot that a picture stood in, the one with the most frames first."""
    seen = [slot["video"] for slot in report["slots"] if slot["video"] and slot["video"]["frames"]]
    return sorted(seen, key=lambda picture: -picture["frames"])


class Client:
    """A headless client in a room: `loadtest join`. What it received it reports when it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def report(self) -> dict:
        """Waits until its stay is over."""
        said, complained = self._process.communicate()
        if not said:
            raise SystemExit(f"a client did not get into the call: {complained.strip()}")
        return json.loads(said)

    def leave(self) -> dict:
        """Ends its stay now."""
        self._process.send_signal(signal.SIGINT)
        return self.report()

    def is_there(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it without a word."""
        self._process.kill()
        self._process.communicate()


@dataclass
class World:
    """A world that stands, with the three PoPs in it ready."""

    hosts: dict[str, Host]
    control: str
    state: Path
    _clients: list[Client] = field(default_factory=list)

    def url(self, pop: str) -> str:
        """The origin of the PoP's door."""
        return f"http://{self.hosts[pop].address}:{_port(pop, 0)}"

    def ask_operators(self, pop: str, path: str) -> dict:
        """What the PoP's door tells its operators, without any of the emulated delay."""
        return self.hosts[pop].inside(lambda: _get_json(self.hosts[pop].address, _port(pop, 1), path))

    def listed(self, pop: str, asked_from: str | None = None) -> list[dict]:
        """`GET /v1/pops` at the PoP's door, asked from a host: the PoP's own, if no other is named."""
        asking, address = self.hosts[asked_from or pop], self.hosts[pop].address
        return asking.inside(lambda: _get_json(address, _port(pop, 0), "/v1/pops"))["pops"]

    def join(self, host: str, room: str, *flags: str, door: str | None = None) -> Client:
        """Someone on `host` joins the room; they ask the door of the PoP `door` first, or of the nearest one."""
        url = self.url(door or NEAREST[host])
        command = [loadtest(), "join", "--url", url, "--room", room, "--name", host, "--json", "-", *flags]
        process = subprocess.Popen(
            self.hosts[host].command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._clients.append(Client(process))
        return self._clients[-1]

    def traffic(self, sender: str, receiver: str) -> Traffic:
        """What the link has delivered so far."""
        counters = json.loads(self._ctl("counters"))
        udp = counters["links"][sender][receiver]["udp"]
        return Traffic(time.monotonic(), udp["packets"], udp["bytes"])

    def rate(self, sender: str, receiver: str, over_s: float) -> Rate:
        """What the link delivers from now on."""
        before = self.traffic(sender, receiver)
        time.sleep(over_s)
        after = self.traffic(sender, receiver)
        passed_s = after.at_s - before.at_s
        return Rate((after.packets - before.packets) / passed_s, (after.bytes - before.bytes) / passed_s)

    def set_link(self, sender: str, receiver: str, *change: str) -> None:
        """Changes a link; see `loadtest wan ctl set --help`."""
        self._ctl("set", sender, receiver, *change)

    def partition(self, one: str, other: str) -> None:
        """Cuts two hosts off from each other."""
        self._ctl("partition", one, other)

    def heal(self, one: str, other: str) -> None:
        """Undoes a partition."""
        self._ctl("heal", one, other)

    def _ctl(self, *words: str) -> str:
        command = [loadtest(), "wan", "ctl", "--control", self.control, *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def end_clients(self) -> None:
        """Ends every client that is still there."""
        for client in self._clients:
            if client.is_there():
                client.kill()


def _port(pop: str, offset: int) -> int:
    return BASE_PORT + PORTS_PER_POP * POPS.index(pop) + offset


def _get_json(address: str, port: int, path: str) -> dict:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


class _Program:
    """A program of ours that says `ready` and then runs until it is told to end."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._said: list[str] = []
        self._ready = threading.Event()
        # Reads to the end: a full pipe would stop the program.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._said.append(line)
            if line.startswith("ready"):
                self._ready.set()
        self._ready.set()

    def ready_line(self) -> str:
        """Waits for it."""
        self._ready.wait(READY_WITHIN_S)
        line = next((line for line in self._said if line.startswith("ready")), None)
        if line is None:
            raise SystemExit(f"{' '.join(self._command)} was not ready within {READY_WITHIN_S} s:\n{''.join(self._said)}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_world(*flags: str) -> Iterator[World]:
    """The preset world with its PoPs for as long as the block lasts. `flags` are those of `loadtest wan`. Everything that was
    started in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="isthmus-wan-") as folder, ExitStack() as running:
        emulator = running.enter_context(_Program([loadtest(), "wan", "--preset", "three-pops", *flags]))
        made = json.loads(emulator.ready_line().removeprefix("ready "))
        hosts = {name: Host(host["namespace"], host["address"]) for name, host in made["hosts"].items()}
        world = World(hosts, made["control"], Path(folder))
        addresses = [word for pop in POPS for word in ("--address", f"{pop}={hosts[pop].address}")]
        cluster = [program(), "dev", "--state", folder, "--base-port", str(BASE_PORT), *addresses]
        for pop in POPS:
            running.enter_context(_Program(hosts[pop].command(*cluster, "--only", pop))).ready_line()
        _wait_until_all_know_all(world)
        running.callback(world.end_clients)
        yield world


def _wait_until_all_know_all(world: World) -> None:
    """A PoP's record travels to the other stores with the replicator's delay."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        listed = [[entry["state"] for entry in world.listed(pop)] for pop in POPS]
        if all(states == ["ready"] * len(POPS) for states in listed):
            return
        time.sleep(0.2)
    raise SystemExit(f"the doors do not list every PoP within {READY_WITHIN_S} s: {listed}")


def wait_until(holds: Callable[[], bool], within_s: float, every_s: float = 0.1) -> float | None:
    """Seconds until it holds; none if it does not in time."""
    began = time.monotonic()
    while (passed_s := time.monotonic() - began) < within_s:
        if holds():
            return passed_s
        time.sleep(every_s)
    return None


def note(what: str) -> None:
    """Something for whoever reads the check's log; the figure alone goes to standard output."""
    print(what, file=sys.stderr, flush=True)
