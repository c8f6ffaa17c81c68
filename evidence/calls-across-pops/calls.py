"""People in a call who use aiortc, a WebRTC stack that nobody here wrote: what they show and say, what they see and hear,
and the ways they come in: WHIP, WHEP and the signalling socket.

The picture is small because aiortc encodes and decodes VP8 in this very process."""

import array
import asyncio
import json
import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Self

import aiohttp
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT = 320, 240
SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = 960
TONE_HZ = 450
SILENCE_DBFS = -60.0
"""What is quieter than this counts as silence; the tone is 40 dB louder."""
CONNECTS_WITHIN_S = 20


class MovingPicture(VideoStreamTrack):
    """Slanted stripes that move, 30 frames per second: no two neighbouring frames are equal, so nothing can be skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._row = bytes(range(256)) * (2 + (WIDTH + HEIGHT) // 256)
        self._shift = 0

    async def recv(self) -> VideoFrame:
        """The next frame, when it is due."""
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        frame.pts, frame.time_base = await self.next_timestamp()
        self._shift = (self._shift + 5) % 256
        luma, *chroma = frame.planes
        starts = range(self._shift, self._shift + HEIGHT)
        luma.update(b"".join(self._row[start : start + luma.line_size] for start in starts))
        for plane in chroma:
            plane.update(bytes([128]) * plane.buffer_size)
        return frame


class Tone(AudioStreamTrack):
    """A steady tone, in frames of 20 ms that fit together without a click: 9 whole periods each."""

    def __init__(self) -> None:
        super().__init__()
        wave = (0.4 * math.sin(math.tau * TONE_HZ * n / SAMPLE_RATE) for n in range(SAMPLES_PER_FRAME))
        self._samples = array.array("h", (round(32767 * value) for value in wave)).tobytes()
        self._pts = 0
        self._began: float | None = None

    async def recv(self) -> AudioFrame:
        """The next frame, when it is due."""
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        await asyncio.sleep(self._began + self._pts / SAMPLE_RATE - now)
        frame = AudioFrame(format="s16", layout="mono", samples=SAMPLES_PER_FRAME)
        frame.planes[0].update(self._samples)
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._pts, Fraction(1, SAMPLE_RATE)
        self._pts += SAMPLES_PER_FRAME
        return frame


@dataclass
class Reception:
    """When each decoded frame of one received track came, in seconds of the loop's clock, and how loud it was."""

    times: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)

    async def consume(self, track: MediaStreamTrack) -> None:
        """Takes frames until the track ends."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.times.append(asyncio.get_running_loop().time())
            if isinstance(frame, AudioFrame):
                self.energies.append(_energy(frame))

    def within(self, start: float, end: float) -> list[float]:
        """The frames of a stretch of time."""
        return [time for time in self.times if start <= time < end]

    def longest_gap_ms(self, start: float, end: float) -> float:
        """The longest time without a frame, from the start and to the end too."""
        times = [start, *self.within(start, end), end]
        return 1000 * max(later - earlier for earlier, later in pairwise(times))

    def level_dbfs(self, start: float, end: float) -> float:
        """How loud the stretch was; 0 dBFS is a square wave at full scale."""
        heard = [energy for time, energy in zip(self.times, self.energies, strict=True) if start <= time < end]
        mean = sum(heard) / len(heard) if heard else 0.0
        return 10 * math.log10(max(mean, 1e-12))


def _energy(frame: AudioFrame) -> float:
    """The mean square of some of the samples, 1 at full scale. The frame's buffer is longer than its sound."""
    sound = bytes(frame.planes[0])[: 2 * frame.samples * frame.layout.nb_channels]
    samples = array.array("h", sound)[::7]
    return sum(sample * sample for sample in samples) / (len(samples) * 32768.0**2)


class Peer:
    """One peer connection: what it sends, and what each of its receive slots has got."""

    def __init__(self, sends: bool, receives: bool, estimates: bool = True) -> None:
        """`estimates`: whether it tells the sender what its path carries, which aiortc reckons from abs-send-time."""
        self._estimates = estimates
        # Two m-lines of one kind: aiortc 1.16 bundles them rightly under this policy alone.
        self._one_transport = sends and receives
        policy = RTCBundlePolicy.MAX_BUNDLE if self._one_transport else RTCBundlePolicy.BALANCED
        # Without an empty list of servers aiortc asks a STUN server on the Internet.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
        self.heard, self.seen = Reception(), Reception()
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", self._consume)
        if sends:
            for track in (Tone(), MovingPicture()):
                self.connection.addTransceiver(track, direction="sendonly")
        if receives:
            for kind in ("audio", "video"):
                self.connection.addTransceiver(kind, direction="recvonly")

    def _consume(self, track: MediaStreamTrack) -> None:
        reception = self.heard if track.kind == "audio" else self.seen
        self._tasks.append(asyncio.ensure_future(reception.consume(track)))

    async def offer(self) -> str:
        """The offer, with every candidate in it."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp = self.connection.localDescription.sdp
        return sdp if self._estimates else re.sub("a=extmap:.*abs-send-time\r\n", "", sdp)

    async def take(self, answer: str) -> None:
        """Takes the answer and waits until media can flow."""
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        if self._one_transport:
            await self._add_candidates(answer)
        async with asyncio.timeout(CONNECTS_WITHIN_S):
            while self.connection.connectionState != "connected":
                await asyncio.sleep(0.02)

    async def _add_candidates(self, answer: str) -> None:
        """Candidates stand in the first m-line of a bundle (RFC 9143 section 7.1.3); of m-lines that have had one transport from
        the start aiortc 1.16 takes those of the last."""
        for line in answer.splitlines():
            if line.startswith("a=candidate:"):
                candidate = candidate_from_sdp(line.removeprefix("a=candidate:"))
                candidate.sdpMid = "0"
                await self.connection.addIceCandidate(candidate)

    async def packets_lost(self) -> int:
        """RTP packets that the sequence numbers say are missing (RFC 3550 appendix A.3), over all that is received."""
        reports = [await receiver.getStats() for receiver in self.connection.getReceivers()]
        streams = [stats for report in reports for stats in report.values() if stats.type == "inbound-rtp"]
        return sum(stats.packetsLost for stats in streams)

    async def first_frames(self, within_s: float) -> None:
        """Waits until something of each kind has been decoded."""
        async with asyncio.timeout(within_s):
            while not (self.heard.times and self.seen.times):
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Ends the connection."""
        await self.connection.close()
        await asyncio.gather(*self._tasks)


class Session:
    """A stay in a room that was begun by one offer over HTTP: WHIP (RFC 9725) or the WHEP draft."""

    def __init__(self, http: aiohttp.ClientSession, peer: Peer, url: str, token: str) -> None:
        self.peer = peer
        self._http, self._url, self._token = http, url, token

    @classmethod
    async def publish(cls, http: aiohttp.ClientSession, door: str, room: str, token: str) -> Self:
        """Sends a picture and a tone into the room by WHIP."""
        return await cls._begin(http, f"{door}/v1/rooms/{room}/whip", token, Peer(sends=True, receives=False))

    @classmethod
    async def play(
        cls, http: aiohttp.ClientSession, door: str, room: str, token: str, estimates: bool = True
    ) -> Self:
        """Receives one voice and one picture of the room by WHEP."""
        peer = Peer(sends=False, receives=True, estimates=estimates)
        return await cls._begin(http, f"{door}/v1/rooms/{room}/whep", token, peer)

    @classmethod
    async def _begin(cls, http: aiohttp.ClientSession, endpoint: str, token: str, peer: Peer) -> Self:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
        async with http.post(endpoint, data=await peer.offer(), headers=headers) as response:
            answer = await response.text()
            if response.status != 201:
                raise RuntimeError(f"{endpoint} refused the offer with {response.status}: {answer}")
            location = response.url.join(response.url.with_path(response.headers["Location"]).relative())
        await peer.take(answer)
        return cls(http, peer, str(location), token)

    async def delete(self) -> int:
        """Leaves the room; returns the HTTP status."""
        async with self._http.delete(self._url, headers={"Authorization": f"Bearer {self._token}"}) as response:
            status = response.status
        await self.peer.close()
        return status


class Caller:
    """Someone in a room by the signalling socket, who sends and receives."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, peer: Peer) -> None:
        self.socket, self.peer = socket, peer
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, http: aiohttp.ClientSession, door: str, room: str, token: str, name: str) -> Self:
        """Joins and waits until media can flow."""
        socket = await http.ws_connect(f"{door}/v1/signal", protocols=["isthmus.v1"])
        # Four codecs in one busy process make an estimate of the process and not of the path.
        caller = cls(socket, Peer(sends=True, receives=True, estimates=False))
        await socket.send_json({"type": "hello", "version": 1, "room": room, "name": name, "token": token})
        await caller._said("welcome")
        await socket.send_json({"type": "offer", "revision": 1, "sdp": await caller.peer.offer()})
        await caller.peer.take((await caller._said("answer"))["sdp"])
        caller._reading = asyncio.ensure_future(caller._read_on())
        return caller

    async def _said(self, wanted: str) -> dict:
        """The next message of a type; others in between are for richer clients."""
        async with asyncio.timeout(CONNECTS_WITHIN_S):
            while True:
                message = json.loads(await self.socket.receive_str())
                if message["type"] == wanted:
                    return message

    async def _read_on(self) -> None:
        """Keeps taking what the door says, so that the socket stays open."""
        async for _ in self.socket:
            pass

    async def leave(self) -> None:
        """Leaves the room."""
        await self.socket.send_json({"type": "leave"})
        await self.socket.close()
        await self.peer.close()
