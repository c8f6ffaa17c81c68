"""Chromium on a host of the emulated world, told what to do by the DevTools protocol over a pair of pipes. The page is the
web app. Its origin is neither HTTPS nor localhost, so it has no camera and no microphone and looks on, unless it is trusted
all the same."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO

from cluster import ROOT
from wan import Host

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1280,900",
    "--remote-debugging-pipe",
)
CAMERA_FLAGS = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream=fps=30")
ENDS_WITHIN_S = 10
JOIN_AT_ONCE = """
    localStorage.setItem("isthmus.name", "Max");
    new MutationObserver((_, observer) => {
        const join = document.querySelector("button[type=submit]:enabled");
        if (join === null) return;
        observer.disconnect();
        join.click();
    }).observe(document, { subtree: true, childList: true, attributes: true });
"""
"""Runs before the page's own scripts: presses Join as soon as that can be done."""
CONNECTED_TO = """(() => {
    const state = window.__isthmus?.room.state;
    return state?.phase === "connected" ? state.pop : null;
})()"""
PICTURE = """(async () => {
    const report = await window.__isthmus?.room.getStats();
    const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp" && row.kind === "video");
    const decoded = rows.map((row) => ({ frames: row.framesDecoded ?? 0, height: row.frameHeight ?? 0 }));
    const most = decoded.sort((one, other) => other.frames - one.frames)[0] ?? { frames: 0, height: 0 };
    return { ...most, at_ms: performance.now() };
})()"""

SOUND = """(async () => {
    const report = await window.__isthmus?.room.getStats();
    const rows = [...(report?.values() ?? [])].filter((row) => row.type === "inbound-rtp" && row.kind === "audio");
    const total = (name) => rows.reduce((sum, row) => sum + (row[name] ?? 0), 0);
    return { packets: total("packetsReceived"), concealed: total("concealedSamples") };
})()"""


@dataclass(frozen=True)
class Sound:
    """What the browser's statistics say of the sound that it plays, since the call began."""

    packets: int
    concealed: int
    """Samples that it made up because none were there."""


@dataclass(frozen=True)
class Picture:
    """What the browser's statistics say of the picture that it decodes."""

    frames: int
    height: int
    at_ms: float
    """Since the page was opened."""


class Page:
    """A page of a browser."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._numbers = count(1)
        self._session: dict[str, str] = {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def join(self, door: str, room: str, *before: str) -> None:
        """Opens the room's link and joins. The scripts `before` run before the page's own."""
        self._ask("Page.enable")
        for script in before:
            self._ask("Page.addScriptToEvaluateOnNewDocument", source=script)
        self._ask("Page.addScriptToEvaluateOnNewDocument", source=JOIN_AT_ONCE)
        self._ask("Page.navigate", url=f"{door}/r/{room}?debug=1")

    def picture(self) -> Picture:
        """The picture of someone else, as it is decoded now."""
        return Picture(**self.evaluate(PICTURE))

    def sound(self) -> Sound:
        """The sound of everyone else, as it is played now."""
        return Sound(**self.evaluate(SOUND))

    def connected_to(self, within_s: float) -> str | None:
        """Waits until the page is in the call; the PoP that it has chosen."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if (pop := self.evaluate(CONNECTED_TO)) is not None:
                return pop
            time.sleep(0.1)
        return None

    def first_picture(self, within_s: float) -> Picture | None:
        """Waits until something has been decoded."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if (picture := self.picture()).frames > 0:
                return picture
            time.sleep(0.02)
        return None

    def evaluate(self, expression: str) -> object:
        """The value of an expression in the page; none while the page is being loaded."""
        answer = self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def _ask(self, method: str, **parameters: object) -> dict:
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": parameters} | self._session
        self._requests.write(json.dumps(request).encode() + b"\0")
        self._requests.flush()
        while True:
            answer = json.loads(self._next_message())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next_message(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            message += byte
        return bytes(message)


@contextmanager
def browsing(host: Host, trusted: str | None = None) -> Iterator[Page]:
    """A browser on the host for as long as the block lasts. It has a made-up camera and microphone for pages of the origin that
    is `trusted`."""
    camera = () if trusted is None else (*CAMERA_FLAGS, f"--unsafely-treat-insecure-origin-as-secure={trusted}")
    from_us, to_us = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="isthmus-chromium-", ignore_cleanup_errors=True) as profile:
        # Chromium reads requests from descriptor 3 and writes answers to 4.
        shell = f'exec "$@" 3<&{from_us[0]} 4>&{to_us[1]}'
        command = host.command("bash", "-c", shell, "bash", CHROMIUM, *FLAGS, *camera, f"--user-data-dir={profile}")
        browser = subprocess.Popen(command, cwd=ROOT, pass_fds=(from_us[0], to_us[1]), stderr=subprocess.DEVNULL)
        os.close(from_us[0])
        os.close(to_us[1])
        try:
            with os.fdopen(from_us[1], "wb") as requests, os.fdopen(to_us[0], "rb") as answers:
                yield Page(requests, answers)
        finally:
            browser.terminate()
            try:
                browser.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
