"""A development cluster of our own for one check: three PoPs of three real processes each, on ports that the system
chooses, in a folder that goes away. A check sees it only as an operator or a client does: URLs, tokens, process ids."""

import json
import os
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POPS = ("panama", "singapore", "zurich")
READY_WITHIN_S = 90
ENDS_WITHIN_S = 15


def program() -> str:
    """The program under test: ISTHMUS_BIN, else the release build, else the debug build."""
    candidates = [ROOT / "target" / profile / "isthmus" for profile in ("release", "debug")]
    built = [str(path) for path in candidates if path.exists()]
    chosen = os.environ.get("ISTHMUS_BIN") or (built[0] if built else None)
    if chosen is None:
        raise SystemExit("isthmus is not built: run `make build`, or say where it is in ISTHMUS_BIN")
    return chosen


@dataclass(frozen=True)
class Port:
    """A socket that a process of the cluster listens on."""

    process: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready."""

    state: Path

    def config(self, pop: str) -> dict:
        """What `isthmus dev` has written for the PoP."""
        return tomllib.loads((self.state / f"{pop}.toml").read_text())

    def url(self, pop: str) -> str:
        """The origin of the PoP's door."""
        return self.config(pop)["gateway"]["public_url"]

    def ops_url(self, pop: str) -> str:
        """The door's listener for operators."""
        return f"http://{self.config(pop)['gateway']['ops_listen']}"

    def readiness_urls(self) -> list[str]:
        """`/readyz` of every process."""
        configs = [self.config(pop) for pop in POPS]
        listeners = [[c["ops"]["sfu"], c["ops"]["store"], c["gateway"]["ops_listen"]] for c in configs]
        return [f"http://{listener}/readyz" for of_pop in listeners for listener in of_pop]

    def pids(self) -> dict[str, int]:
        """Every process of the cluster by name."""
        return json.loads((self.state / "pids.json").read_text())

    def token(self, room: str, identity: str) -> str:
        """A room token as an operator would issue it."""
        config = str(self.state / "panama.toml")
        command = [program(), "token", "--config", config, "--room", room, "--identity", identity]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def ports(self) -> list[Port]:
        """Every UDP port and listening TCP port of every process, as the kernel tells them: no list of ours can leave
        one out."""
        tables = [port for protocol in ("udp", "udp6", "tcp", "tcp6") for port in _sockets(protocol)]
        found = set()
        for name, pid in self.pids().items():
            inodes = _inodes(pid)
            found |= {Port(name, protocol, number) for protocol, number, inode in tables if inode in inodes}
        return sorted(found, key=lambda port: (port.process, port.protocol, port.number))


def _inodes(pid: int) -> set[str]:
    """The sockets that a process holds open."""
    links = [os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir() if descriptor.is_symlink()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def _sockets(table: str) -> Iterator[tuple[str, int, str]]:
    """Protocol, local port and inode of what /proc/net lists as receiving (proc(5))."""
    protocol = table.removesuffix("6")
    unconnected_or_listening = {"udp": "07", "tcp": "0A"}[protocol]
    for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == unconnected_or_listening:
            yield protocol, int(fields[1].rsplit(":", 1)[1], 16), fields[9]


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster for as long as the block lasts, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="isthmus-evidence-") as folder, started(Path(folder), "--base-port", "0"):
        yield Cluster(Path(folder))


@contextmanager
def started(state: Path, *flags: str, inside: Sequence[str] = ()) -> Iterator[str]:
    """`isthmus dev` with this state for as long as the block lasts; the line in which it says that it is ready. `inside` is a
    command that becomes the one it is given. The cluster's processes end with `isthmus dev`, which alone is signalled."""
    said = state / "dev.out"
    with said.open("w") as output:
        command = [*inside, program(), "dev", "--state", str(state), *flags]
        dev = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _ready_line(dev, said)
    finally:
        dev.terminate()
        try:
            dev.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            dev.kill()
            dev.wait()


def _ready_line(dev: subprocess.Popen, said: Path) -> str:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        lines = said.read_text().splitlines()
        if (line := next((line for line in lines if line.startswith("ready")), None)) is not None:
            return line
        if dev.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the cluster did not become ready within {READY_WITHIN_S} s:\n{said.read_text()}")
        time.sleep(0.1)
