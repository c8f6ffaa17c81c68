"""Pours rubbish into ports: `rubbish.py SEED DATAGRAMS UFRAG udp:PORT... tcp:PORT...`. Each UDP port gets so many datagrams,
each TCP port a number of broken conversations. UFRAG is the ICE user fragment of a call that is going on: the nastier
datagrams name it. A process of its own, so that making rubbish takes no time from the call that is being watched."""

import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

PER_SECOND = 8_000
"""Over all ports. Far above what scanners send, and slow enough that no socket's buffer overflows: what is tested is what a
process does with rubbish, not how fast the kernel drops it."""
TCP_WAIT_S = 0.5


def noise(rng: random.Random) -> bytes:
    """Anything at all."""
    return rng.randbytes(1 + rng.randrange(1400))


def stun_like(rng: random.Random, ufrag: str) -> bytes:
    """A binding request (RFC 8489) with a wrong integrity check, attributes that end too early or lie about their length."""
    username = f"{ufrag if rng.random() < 0.5 else rng.randrange(10**8)}:{rng.randrange(10**8)}".encode()
    attributes = _attribute(0x0006, username) + _attribute(0x0008, rng.randbytes(20)) + _attribute(0x8028, rng.randbytes(4))
    attributes = attributes[: rng.choice((len(attributes), rng.randrange(len(attributes))))]
    length = rng.choice((len(attributes), rng.randrange(2**16)))
    kind = rng.choice((0x0001, 0x0101, 0x0111, rng.randrange(2**14)))
    return struct.pack("!HHI", kind, length, 0x2112A442) + rng.randbytes(12) + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def dtls_like(rng: random.Random, _: str) -> bytes:
    """A DTLS 1.2 record (RFC 6347) of any type, epoch and length, often a fatal alert or a ClientHello cut short."""
    body = rng.choice((b"\x02\x28", b"\x01" + rng.randbytes(60), rng.randbytes(rng.randrange(300))))
    kind, epoch = rng.choice((20, 21, 22, 23, 25)), rng.choice((0, 0, 1, 65535))
    length = rng.choice((len(body), rng.randrange(2**16)))
    return struct.pack("!BHH", kind, 0xFEFD, epoch) + rng.randbytes(6) + struct.pack("!H", length) + body


def rtp_like(rng: random.Random, _: str) -> bytes:
    """RTP or RTCP (RFC 3550) with extensions, padding and counts that may not fit."""
    first, second = 0x80 | rng.randrange(64), rng.choice((rng.randrange(256), rng.randrange(200, 207)))
    return struct.pack("!BBHII", first, second, rng.randrange(2**16), rng.randrange(2**32), rng.randrange(2**32)) + noise(rng)


def quic_like(rng: random.Random, _: str) -> bytes:
    """A QUIC Initial (RFC 9000) of a connection that does not exist."""
    return bytes([0xC0 | rng.randrange(64)]) + struct.pack("!I", rng.choice((1, rng.randrange(2**32)))) + noise(rng)


LIKE: list[Callable[[random.Random, str], bytes]] = [
    lambda rng, _: noise(rng),
    stun_like,
    dtls_like,
    rtp_like,
    quic_like,
]


def pour_datagrams(rng: random.Random, ports: list[int], count: int, ufrag: str) -> None:
    """Sends `count` datagrams to each port, all kinds in turn, at a steady pace."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    start, sent = time.monotonic(), 0
    for number in range(count):
        datagram = LIKE[number % len(LIKE)](rng, ufrag)
        for port in ports:
            sender.sendto(datagram, ("127.0.0.1", port))
            sent += 1
        ahead = start + sent / PER_SECOND - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def conversations(rng: random.Random, ufrag: str) -> list[bytes]:
    """What is said to a TCP port: bytes, broken HTTP, and RFC 4571 frames whose lengths are zero, lie, or never end."""
    stun = stun_like(rng, ufrag)
    framed = struct.pack("!H", len(stun)) + stun
    return [
        b"",
        rng.randbytes(4096),
        b"\x00\x00" * 500,
        b"\xff\xff" + rng.randbytes(100),
        struct.pack("!H", 5) + stun,
        framed * 50,
        framed + struct.pack("!H", 1200) + rng.randbytes(7),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/measurements HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000,
        b"\x16\x03\x01\x40\x00\x01" + rng.randbytes(300),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(300),
    ]


def speak(port: int, said: bytes) -> None:
    """One conversation: says it, listens a moment, hangs up. Being cut off is a fine answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TCP_WAIT_S)
    with connection, suppress(TimeoutError, ConnectionError):
        connection.sendall(said)
        connection.recv(65536)


def main(seed: int, datagrams: int, ufrag: str, ports: list[str]) -> None:
    """Pours, and prints what was poured."""
    rng = random.Random(seed)
    numbers = {kind: [int(p.split(":")[1]) for p in ports if p.startswith(kind)] for kind in ("udp", "tcp")}
    pour_datagrams(rng, numbers["udp"], datagrams, ufrag)
    spoken = [(port, said) for said in conversations(rng, ufrag) for port in numbers["tcp"]]
    with ThreadPoolExecutor(16) as at_once:
        list(at_once.map(lambda conversation: speak(*conversation), spoken))
    print(f"{datagrams * len(numbers['udp'])} datagrams and {len(spoken)} conversations of rubbish")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
