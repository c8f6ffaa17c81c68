"""What the door documents is what the contract promises and what the door does: /v1/openapi.json lists the public routes, all
of them and no others; each is really there; and what is for operators is not."""

import asyncio
import re
import sys

import aiohttp
from cluster import ROOT, Cluster, running_cluster

PUBLIC = {
    "GET /v1/pops",
    "GET /v1/ping",
    "POST /v1/measurements",
    "POST /v1/rooms/{room}/guests",
    "POST /v1/rooms/{room}/whip",
    "PATCH /v1/rooms/{room}/whip/{node}/{participant}",
    "DELETE /v1/rooms/{room}/whip/{node}/{participant}",
    "POST /v1/rooms/{room}/whep",
    "PATCH /v1/rooms/{room}/whep/{node}/{participant}",
    "DELETE /v1/rooms/{room}/whep/{node}/{participant}",
    "GET /v1/signal",
    "GET /v1/openapi.json",
}
"""The public API of this release. It grows with the contract; a route that is not here is there by mistake."""
CONTRACT = ROOT.parent / "shared" / "contract.md"
FOR_OPERATORS = ("/metrics", "/healthz", "/readyz", "/debug/rooms", "/debug/pops")


def promised() -> set[str]:
    """The routes in the contract's table, where the contract lies beside the repository."""
    text = CONTRACT.read_text() if CONTRACT.exists() else ""
    return set(re.findall(r"^\| `((?:GET|POST) /v1/[^`]+)`", text, re.MULTILINE))


async def listed(http: aiohttp.ClientSession, door: str) -> set[str]:
    """The routes in the door's own document."""
    async with http.get(f"{door}/v1/openapi.json") as response:
        paths = (await response.json())["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


async def missing(http: aiohttp.ClientSession, door: str, route: str) -> bool:
    """Whether nothing is there. A route that is there may refuse, but not with these two codes."""
    method, path = re.sub(r"\{\w+\}", "x", route).split()
    async with http.request(method, door + path) as response:
        problem = await response.json() if response.content_type == "application/problem+json" else {}
        return problem.get("code") in ("not_found", "method_not_allowed")


async def exposed(http: aiohttp.ClientSession, cluster: Cluster, path: str) -> bool:
    """Whether the public door answers as the operators' listener does."""
    async with http.get(cluster.ops_url("panama") + path) as operators, http.get(cluster.url("panama") + path) as public:
        return (public.status, public.content_type) == (operators.status, operators.content_type)


async def can_drain(http: aiohttp.ClientSession, cluster: Cluster) -> bool:
    """Whether the public door takes the operators' `POST /drain`: by its answer, or by what it did."""
    async with http.post(cluster.url("panama") + "/drain") as public:
        refused = public.status in (404, 405)
    async with http.get(cluster.ops_url("panama") + "/readyz") as operators:
        return not refused or operators.status != 200


async def check(cluster: Cluster) -> bool:
    """Prints what differs and the figure; returns whether nothing does."""
    door = cluster.url("panama")
    async with aiohttp.ClientSession() as http:
        routes = await listed(http, door)
        problems = [f"promised and not listed: {route}" for route in sorted((PUBLIC | promised()) - routes)]
        problems += [f"listed and not promised: {route}" for route in sorted(routes - PUBLIC)]
        problems += [f"listed and not there: {route}" for route in sorted(routes) if await missing(http, door, route)]
        problems += [f"public and for operators: {path}" for path in FOR_OPERATORS if await exposed(http, cluster, path)]
        # Last: it would leave nothing to look at.
        problems += ["public and for operators: /drain"] if await can_drain(http, cluster) else []
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(routes)} public routes listed, promised and there; {len(problems)} differences")
    return not problems


if __name__ == "__main__":
    with running_cluster() as cluster:
        sys.exit(not asyncio.run(check(cluster)))
