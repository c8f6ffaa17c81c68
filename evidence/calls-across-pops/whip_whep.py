"""An encoder publishes by WHIP in one PoP, a player receives by WHEP in another; both are aiortc. Then both DELETE their
sessions, and no media node may hold anything of the room any more."""

import asyncio
import sys

import aiohttp
from calls import SILENCE_DBFS, Session
from cluster import POPS, Cluster, running_cluster

ROOM = "whip-whep"
MEASURED_S = 10
LEAST_FPS = 20
FIRST_FRAMES_WITHIN_S = 20
EMPTY_WITHIN_S = 5


async def occupied(http: aiohttp.ClientSession, cluster: Cluster) -> dict:
    """What the operators of each PoP see of rooms."""
    views: dict[str, list] = {}
    for pop in POPS:
        async with http.get(f"{cluster.ops_url(pop)}/debug/rooms") as response:
            views |= await response.json()
    return {node: rooms for node, rooms in views.items() if rooms}


async def emptied(http: aiohttp.ClientSession, cluster: Cluster) -> bool:
    """Whether every media node forgets the room in time."""
    deadline = asyncio.get_running_loop().time() + EMPTY_WITHIN_S
    while await occupied(http, cluster):
        if asyncio.get_running_loop().time() > deadline:
            print("still there:", await occupied(http, cluster), file=sys.stderr)
            return False
        await asyncio.sleep(0.1)
    return True


async def check(cluster: Cluster) -> bool:
    """Prints the figure; returns whether it is good enough."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as http:
        publisher = await Session.publish(http, cluster.url("panama"), ROOM, cluster.token(ROOM, "encoder"))
        player = await Session.play(http, cluster.url("zurich"), ROOM, cluster.token(ROOM, "player"))
        await player.peer.first_frames(FIRST_FRAMES_WITHIN_S)
        start = loop.time()
        await asyncio.sleep(MEASURED_S)
        end = loop.time()
        audio, video = player.peer.heard, player.peer.seen
        fps = len(video.within(start, end)) / (end - start)
        level, silent = audio.level_dbfs(start, end), audio.level_dbfs(start, end) < SILENCE_DBFS
        statuses = [await session.delete() for session in (player, publisher)]
        empty = await emptied(http, cluster)
    heard = "silent" if silent else "not silent"
    left = "both left" if statuses == [200, 200] and empty else f"leaving failed: {statuses}, room empty: {empty}"
    print(
        f"whip panama -> whep zurich: {fps:.1f} fps decoded, audio {heard} ({level:.0f} dBFS), "
        f"{MEASURED_S} s, longest gap {video.longest_gap_ms(start, end):.0f} ms; {left}"
    )
    return fps >= LEAST_FPS and not silent and statuses == [200, 200] and empty


if __name__ == "__main__":
    with running_cluster() as cluster:
        sys.exit(not asyncio.run(check(cluster)))
