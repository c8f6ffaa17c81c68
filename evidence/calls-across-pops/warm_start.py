"""How long `isthmus dev` takes to become ready again: ended by SIGTERM and started with the same state a while later, when the
stores still hold what the processes said of themselves before. The figure is its own line, the goal counts the slowest start.

It runs as `make dev` does, on the ports that the contract names; in a network namespace of its own, where those are free."""

import re
import sys
import tempfile
import time
from pathlib import Path

from cluster import started

STARTS = 3
PAUSE_S = 8
"""Longer than a node may be silent before it counts as down (7 s): what the stores hold of them is old news by then."""
MAX_READY_S = 5.0
OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def ready_s(state: Path) -> float:
    """Starts the cluster and ends it; what it said of how long that took."""
    with started(state, inside=OWN_NETWORK) as line:
        said = re.match(r"ready in ([\d.]+) s", line)
        if said is None:
            raise SystemExit(f"the cluster does not say how long it took: {line!r}")
        return float(said[1])


def check(state: Path) -> bool:
    """Prints the figure; returns whether it is good enough."""
    cold_s = ready_s(state)
    warm_s = []
    for _ in range(STARTS):
        time.sleep(PAUSE_S)
        warm_s.append(ready_s(state))
    print(f"ready in {max(warm_s):.1f} s, the slowest of {STARTS} warm starts ({warm_s}); the cold one before took {cold_s:.1f} s")
    return max(warm_s) <= MAX_READY_S


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="isthmus-evidence-") as folder:
        sys.exit(not check(Path(folder)))
