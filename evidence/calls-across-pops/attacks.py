"""Requests and messages that a door must refuse, each with the refusal that is documented: an HTTP status and a stable code,
or on a signalling socket a close code and the code of the error message."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import aiohttp
import wire
from cluster import Cluster
from forgery import forged_tokens

TEN_MB = 10_000_000
FOREIGN = {"Origin": "https://evil.example"}
AS_JSON = {"Content-Type": "application/json"}
AS_FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
STATUS = {"forbidden": 403, "token_expired": 401, "unauthorized": 401, "invalid_sdp": 400, "too_large": 413}
SAYS_WITHIN_S = 10
SLOT = "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{}\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 opus/48000/2\r\n"


@dataclass(frozen=True)
class Attack:
    """One thing to try. `wanted` and what `attempt` returns read alike: `403 forbidden` over HTTP, `4000 forbidden` on a
    socket that was closed, `open invalid_sdp` on one that goes on."""

    name: str
    wanted: str
    attempt: Callable[[], Awaitable[str]]


class Attacker:
    """Someone outside who knows the address of a door and has a token of their own for the room. `offer` is a sound session
    description that sends and receives."""

    def __init__(self, http: aiohttp.ClientSession, cluster: Cluster, pop: str, room: str, offer: str) -> None:
        self._http, self._cluster, self._room, self._offer = http, cluster, room, offer
        self._door = cluster.url(pop)
        self._token = cluster.token(room, "eve")
        self._met: set[tuple[str, str, str]] = set()

    def all(self) -> list[Attack]:
        """Everything to try."""
        return [*self._by_token(), *self._by_request(), *self._by_offer(), *self._by_message(), *self._by_size()]

    async def undocumented(self) -> list[str]:
        """The HTTP refusals met so far that the door's own openapi.json does not list for their route."""
        async with self._http.get(f"{self._door}/v1/openapi.json") as response:
            paths = (await response.json())["paths"]
        return [" ".join(met) + " is not in openapi.json" for met in sorted(self._met) if not _lists(paths, *met)]

    async def _over_http(self, method: str, path: str, token: str | None, **request) -> str:
        """Status and code. An answer that is no problem document reads `STATUS none`."""
        headers = {"Content-Type": "application/sdp"} | request.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self._http.request(method, self._door + path, headers=headers, **request) as response:
            problem = response.content_type == "application/problem+json"
            refusal = f"{response.status} {(await response.json())['code'] if problem else 'none'}"
        self._met.add((method, path, refusal))
        return refusal

    async def _on_socket(self, *messages: str | bytes) -> str:
        """What became of a socket on which these were said, each after the welcome that answers the one before."""
        async with self._http.ws_connect(f"{self._door}/v1/signal", protocols=["isthmus.v1"]) as socket:
            waiting, error = list(messages), "none"
            await _say(socket, waiting.pop(0))
            while (frame := await socket.receive(SAYS_WITHIN_S)).type == aiohttp.WSMsgType.TEXT:
                said = json.loads(frame.data)
                if said["type"] == "welcome" and waiting:
                    await _say(socket, waiting.pop(0))
                elif said["type"] == "error":
                    error = said["code"]
                    if not said["fatal"]:
                        await socket.send_json({"type": "ping", "id": 7})
                elif said["type"] in ("pong", "answer"):
                    return f"open {error}"
            return f"{socket.close_code} {error}"

    def _hello(self, **changes) -> str:
        hello = {"type": "hello", "version": 1, "room": self._room, "name": "Eve", "token": self._token}
        return json.dumps(hello | changes)

    def _by_token(self) -> list[Attack]:
        whip = f"/v1/rooms/{self._room}/whip"
        tokens = [("no token", None, "unauthorized"), *forged_tokens(self._cluster, self._room)]
        attacks = []
        for what, token, code in tokens:
            over_http = partial(self._over_http, "POST", whip, token, data=self._offer)
            on_socket = partial(self._on_socket, self._hello(token=token))
            attacks.append(Attack(f"{what}, WHIP", f"{STATUS[code]} {code}", over_http))
            attacks.append(Attack(f"{what}, socket", f"4000 {code}", on_socket))
        return attacks

    def _by_request(self) -> list[Attack]:
        room = f"/v1/rooms/{self._room}"
        guests, whip, stay = f"{room}/guests", f"{room}/whip", f"{room}/whip/panama-sfu-1/p-00000000000000000000"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        upgrade |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        tries = [
            ("broken JSON", "400 invalid_request", "POST", guests, AS_JSON, '{"name":'),
            ("JSON of another shape", "400 invalid_request", "POST", guests, AS_JSON, '{"name":7}'),
            ("JSON that is no text", "400 invalid_request", "POST", guests, AS_JSON, b"\xff\xfe"),
            ("another media type", "415 unsupported_media_type", "POST", whip, AS_JSON, "{}"),
            ("foreign page, WHIP", "403 origin_not_allowed", "POST", whip, FOREIGN, self._offer),
            ("foreign page, guests", "403 origin_not_allowed", "POST", guests, FOREIGN | AS_JSON, '{"name":"Eve"}'),
            ("foreign page, PoPs", "403 origin_not_allowed", "GET", "/v1/pops", FOREIGN, None),
            ("foreign page, socket", "403 origin_not_allowed", "GET", "/v1/signal", FOREIGN | upgrade, None),
            ("a room outside", "400 invalid_request", "POST", "/v1/rooms/..%2F..%2Fetc/whip", {}, self._offer),
            ("somebody's stay", "404 session_gone", "DELETE", stay, {}, None),
            ("trickle without a condition", "428 invalid_request", "PATCH", stay, AS_FRAGMENT, "a=x"),
        ]
        return [
            Attack(name, wanted, partial(self._over_http, method, path, self._token, headers=headers, data=body))
            for name, wanted, method, path, headers, body in tries
        ]

    def _by_offer(self) -> list[Attack]:
        attacks = []
        for what, sdp, code in broken_offers(self._offer):
            for way in ("whip", "whep"):
                over_http = partial(self._over_http, "POST", f"/v1/rooms/{self._room}/{way}", self._token, data=sdp)
                attacks.append(Attack(f"{what}, {way.upper()}", f"{STATUS[code]} {code}", over_http))
            offer = json.dumps({"type": "offer", "revision": 1, "sdp": sdp})
            attacks.append(Attack(f"{what}, socket", f"open {code}", partial(self._on_socket, self._hello(), offer)))
        return attacks

    def _by_message(self) -> list[Attack]:
        hello, resume = self._hello(), {"participant": "p-1", "node": "panama-sfu-1"}
        tries = [
            ("broken JSON first", "4000 invalid_request", ('{"type":',)),
            ("another message first", "4000 invalid_request", ('{"type":"leave"}',)),
            ("another version", "4000 unsupported_version", (self._hello(version=99),)),
            ("somebody's session", "4000 session_gone", (self._hello(resume=resume),)),
            ("broken JSON in a session", "open invalid_request", (hello, '{"type":')),
            ("bytes in a session", "open invalid_request", (hello, b"\x00\xff")),
            ("an unknown message", "open invalid_request", (hello, '{"type":"explode"}')),
            ("a second hello", "open conflict", (hello, hello)),
        ]
        return [Attack(name, wanted, partial(self._on_socket, *messages)) for name, wanted, messages in tries]

    def _by_size(self) -> list[Attack]:
        large, room = b"x" * TEN_MB, f"/v1/rooms/{self._room}"
        authorised = f"Host: {{host}}\r\nAuthorization: Bearer {self._token}\r\n"
        offer = f"POST {room}/whip HTTP/1.1\r\n{authorised}Content-Type: application/sdp\r\n"
        guest = f"POST {room}/guests HTTP/1.1\r\n{authorised}Content-Type: application/json\r\n"
        whole, chunked = f"Content-Length: {TEN_MB}\r\n\r\n", f"Transfer-Encoding: chunked\r\n\r\n{TEN_MB:x}\r\n"
        message = wire.frame(json.dumps({"type": "candidate", "candidate": "x" * TEN_MB}))
        hello, pings = wire.frame(self._hello()), wire.frame('{"type":"ping","id":1}') * 500
        over_http, on_socket = partial(wire.http_refusal, self._door), partial(wire.socket_refusal, self._door)
        return [
            Attack("10 MB offer", "413 too_large", partial(over_http, offer + whole, large)),
            Attack("10 MB offer without a length", "413 too_large", partial(over_http, offer + chunked, large)),
            Attack("10 MB of JSON", "413 too_large", partial(over_http, guest + whole, large)),
            Attack("10 MB first message", "1009 too_large", partial(on_socket, message)),
            Attack("10 MB message in a session", "1009 too_large", partial(on_socket, hello, message)),
            Attack("500 messages at once", "4002 too_fast", partial(on_socket, hello, pings)),
        ]


async def _say(socket: aiohttp.ClientWebSocketResponse, message: str | bytes) -> None:
    await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))


def _lists(paths: dict, method: str, path: str, refusal: str) -> bool:
    """Whether an OpenAPI document lists the refusal for the route: under its status, by the name of its code."""
    status, code = refusal.split()
    for template, methods in paths.items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods:
            response = methods[method.lower()]["responses"].get(status, {})
            return f"`{code}`" in response.get("description", "")
    return False


def broken_offers(offer: str) -> list[tuple[str, str, str]]:
    """Session descriptions nobody can answer, made from one that can be, and the code each is refused with."""
    session, first, second, *_ = offer.split("m=")
    slots = "".join(SLOT.format(mid) for mid in range(1, 1000))
    twice = second.replace("a=mid:1", "a=mid:0")
    return [
        ("an offer that is none", "hello", "invalid_sdp"),
        ("an offer with 1,000 m-lines", f"{session}m={first}{slots}", "too_large"),
        ("an offer cut short", offer[: len(offer) // 2] + "\r\na=rtpmap:", "invalid_sdp"),
        ("an offer without ICE", re.sub(r"a=ice-.*\r\n", "", offer), "invalid_sdp"),
        ("an offer without a fingerprint", re.sub(r"a=fingerprint.*\r\n", "", offer), "invalid_sdp"),
        ("an offer with a broken fingerprint", re.sub(r"(sha-\d+) ..", r"\1 ZZ", offer), "invalid_sdp"),
        ("an offer with one mid twice", f"{session}m={first}m={twice}", "invalid_sdp"),
        ("an offer of NUL bytes", offer.replace("a=mid:", "a=mid:\x00"), "invalid_sdp"),
    ]
