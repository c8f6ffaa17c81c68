"""A client without manners, for requests that are cut off while they are still being written. Libraries give up at the first
failed write and lose the refusal that has come already; this one reads what is there."""

import asyncio
import json
import socket
import struct
from contextlib import suppress
from urllib.parse import urlsplit

WAIT_S = 15
UPGRADE = (
    "GET /v1/signal HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: isthmus.v1\r\n\r\n"
)


def frame(text: str) -> bytes:
    """A WebSocket text frame of a client (RFC 6455 section 5.2). Its mask is zero, so the text stands there as it is."""
    data = text.encode()
    short = len(data) < 126
    length = struct.pack("!B", 0x80 | len(data)) if short else struct.pack("!BQ", 0x80 | 127, len(data))
    return b"\x81" + length + bytes(4) + data


async def http_refusal(door: str, head: str, body: bytes) -> str:
    """Status and code of the answer to a request that is written as it stands."""
    request = head.format(host=urlsplit(door).netloc).encode() + body
    answer = await asyncio.to_thread(_converse, door, [request])
    headers, _, problem = answer.partition(b"\r\n\r\n")
    return f"{headers.split()[1].decode()} {json.loads(problem)['code']}"


async def socket_refusal(door: str, *turns: bytes) -> str:
    """The close code of a signalling socket and its reason, after these turns; each but the last is answered first."""
    upgrade = UPGRADE.format(host=urlsplit(door).netloc).encode()
    frames = await asyncio.to_thread(_converse, door, [upgrade, *turns])
    code, reason = None, ""
    while len(frames) >= 2:
        opcode, length, start = frames[0] & 0x0F, frames[1], 2
        if length == 126:
            (length,), start = struct.unpack("!H", frames[2:4]), 4
        if opcode == 8:
            (code,), reason = struct.unpack("!H", frames[2:4]), frames[4 : start + length].decode()
        frames = frames[start + length :]
    return f"{code} {reason}"


def _converse(door: str, turns: list[bytes]) -> bytes:
    """Says each turn after something came back for the one before; returns all that came back for the last."""
    host = urlsplit(door)
    with socket.create_connection((host.hostname, host.port), WAIT_S) as connection:
        for turn in turns[:-1]:
            connection.sendall(turn)
            connection.recv(65536)
        heard = b""
        # Cut off while writing, there may still be something to read.
        with suppress(ConnectionError):
            connection.sendall(turns[-1])
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                heard += part
        return heard
