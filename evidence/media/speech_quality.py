"""How good speech sounds behind networks that lose packets both ways at a round trip of 100 ms: PESQ (ITU-T P.862.2, wideband) of what
a Chromium plays against what another's microphone was given. Both have the web app, so that the concealment of losses and the buffer
against jitter are those that people have. `loadtest bench` judges the same networks by the E-model, which knows losses and delay but
not what they sound like."""

import base64
import sys
import time
from contextlib import ExitStack

import av
import listening
import numpy as np
from cluster import ROOT
from pesq import pesq
from wan import NEAREST, World, note, running_world, wait_until
from wan_browser import Page, browsing

HOST = "client-milan"
POP = NEAREST[HOST]
ROOM = "speech-quality"
ONE_WAY_MS = 50
OPUS_HZ, PESQ_HZ = 48_000, 16_000
SPEECH = ROOT / "loadtest/media/speech.opuspackets"
HEARD_WITHIN_S = 45
SETTLES_S = 15
REPETITIONS = 5
"""Of the clip of 8.4 s, for each network."""
LEAST = {0.0: 4.0, 0.01: 4.0, 0.05: 3.8, 0.10: 3.5, 0.20: 2.0}
"""The mean opinion score that is good enough where this share of packets is lost each way: half of the repetitions must have it."""

SPEAKING = """(() => {
    const start = () => {
        const context = new AudioContext({ sampleRate: %(hz)s });
        const bytes = Uint8Array.from(atob("%(pcm)s"), (character) => character.charCodeAt(0));
        const samples = Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
        const buffer = context.createBuffer(1, samples.length, %(hz)s);
        buffer.copyToChannel(samples, 0);
        const speech = Object.assign(context.createBufferSource(), { buffer, loop: true });
        const microphone = context.createMediaStreamDestination();
        speech.connect(microphone);
        speech.start();
        const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
        canvas.getContext("2d").fillRect(0, 0, 1, 1);
        return { audio: microphone.stream.getAudioTracks()[0], video: canvas.captureStream(1).getVideoTracks()[0] };
    };
    let tracks;
    navigator.mediaDevices.getUserMedia = async (constraints) => {
        tracks ??= start();
        const wanted = ["audio", "video"].filter((kind) => constraints[kind]);
        return new MediaStream(wanted.map((kind) => tracks[kind].clone()));
    };
})()"""
"""Instead of camera and microphone: the clip again and again. Runs before the page's own scripts."""

RECORDING = """(async () => {
    const published = window.__isthmus.room.participants.flatMap((participant) => participant.publications);
    const track = published.find((one) => one.source === "microphone")?.mediaTrack;
    const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
    const samples = new Int16Array(%(samples)s);
    let filled = 0;
    while (filled < samples.length) {
        const { value: sound } = await reader.read();
        if (sound.sampleRate !== %(hz)s) throw new Error(`${sound.sampleRate} Hz`);
        const chunk = new Float32Array(sound.numberOfFrames);
        sound.copyTo(chunk, { planeIndex: 0, format: "f32-planar" });
        sound.close();
        const room = samples.subarray(filled);
        chunk.subarray(0, room.length).forEach((sample, index) => (room[index] = Math.max(-1, Math.min(1, sample)) * 32767));
        filled += Math.min(chunk.length, room.length);
    }
    let text = "";
    const bytes = new Uint8Array(samples.buffer);
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
})()"""


def clip() -> np.ndarray:
    """The speech that the load tester's clients have, decoded: 16 bits, 48 kHz, mono."""
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = OPUS_HZ, "mono"
    packed, sounds = SPEECH.read_bytes(), []
    while packed:
        # A level, a length of two bytes, an Opus packet.
        end = 3 + int.from_bytes(packed[1:3], "big")
        sounds += [frame.to_ndarray() for frame in decoder.decode(av.Packet(packed[3:end]))]
        packed = packed[end:]
    joined = np.concatenate(sounds, axis=1)[0]
    return joined if joined.dtype == np.int16 else np.clip(joined * 32768, -32768, 32767).astype(np.int16)


def at_pesq_rate(sound: np.ndarray) -> np.ndarray:
    """A third of the samples, without what they cannot carry: everything from 8 kHz on."""
    spectrum = np.fft.rfft(sound.astype(np.float64))
    spectrum = spectrum[: len(sound) * PESQ_HZ // OPUS_HZ // 2 + 1]
    return np.fft.irfft(spectrum, len(sound) * PESQ_HZ // OPUS_HZ) * PESQ_HZ / OPUS_HZ


def delay(spoken: np.ndarray, heard: np.ndarray) -> int:
    """The sample at which the clip begins in a recording that is longer than twice the clip, the first time."""
    length = len(heard)
    product = np.fft.irfft(np.fft.rfft(heard, 2 * length) * np.conj(np.fft.rfft(spoken, 2 * length)))
    return int(np.argmax(product[: len(spoken)]))


def scores(spoken: np.ndarray, heard: np.ndarray) -> list[float]:
    """The mean opinion score of each repetition that a recording has."""
    spoken, heard = at_pesq_rate(spoken), at_pesq_rate(heard)
    begin = delay(spoken, heard)
    repeated = range(begin, len(heard) - len(spoken) + 1, len(spoken))
    return [pesq(PESQ_HZ, spoken, heard[at : at + len(spoken)], "wb") for at in repeated]


def recorded(page: Page, length: int) -> np.ndarray:
    """So many samples of what the page plays from now on."""
    samples = page.evaluate(RECORDING % {"samples": length, "hz": OPUS_HZ})
    if samples is None:
        raise SystemExit("the page plays no sound that can be recorded")
    return np.frombuffer(base64.b64decode(samples), dtype="<i2")


def measured(world: World, page: Page, spoken: np.ndarray, loss: float) -> list[float]:
    """The scores behind a network that loses this share of packets each way."""
    world.set_link(HOST, POP, "--one-way-ms", str(ONE_WAY_MS), "--jitter-ms", "0", "--loss", str(loss))
    # What adapts to a network, such as the buffer against jitter, stretches speech meanwhile.
    time.sleep(SETTLES_S)
    before = page.sound()
    found = scores(spoken, recorded(page, (REPETITIONS + 1) * len(spoken)))
    made_up_ms = 1000 * (page.sound().concealed - before.concealed) / OPUS_HZ
    note(f"{100 * loss:.0f} %: {' '.join(f'{score:.2f}' for score in found)}, {made_up_ms:.0f} ms were made up by the browser")
    return found


def check(world: World) -> bool:
    """Prints the figures; returns whether they are good enough."""
    spoken = clip()
    speaking = SPEAKING % {"hz": OPUS_HZ, "pcm": base64.b64encode(spoken.astype("<i2").tobytes()).decode()}
    world.set_link(HOST, POP, "--one-way-ms", str(ONE_WAY_MS), "--jitter-ms", "0", "--loss", "0")
    with ExitStack() as browsers:
        door = world.url(POP)
        browsers.enter_context(browsing(world.hosts[HOST], trusted=door)).join(door, ROOM, speaking)
        page = browsers.enter_context(browsing(world.hosts[HOST]))
        page.join(door, ROOM)
        if wait_until(lambda: page.sound().packets > 0, HEARD_WITHIN_S) is None:
            print(f"nothing was heard within {HEARD_WITHIN_S} s: {page.sound()}")
            return False
        medians = {loss: listening.quantile(measured(world, page, spoken, loss), 0.5) for loss in LEAST}
    told = ", ".join(f"{100 * loss:.0f} % {score:.2f}" for loss, score in medians.items())
    print(f"PESQ, half of {REPETITIONS} repetitions or more: lost each way {told}")
    return all(score >= LEAST[loss] for loss, score in medians.items())


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
