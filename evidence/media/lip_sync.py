"""How far apart picture and sound are in a call of two across two PoPs over paths whose delay varies by 30 ms. The publisher's camera
is a canvas that flashes while its microphone beeps; the other's page notes when the flash is shown and when the beep is played.
Both are Chromium with the web app, so that what is measured is what someone sees and hears."""

import sys
from contextlib import ExitStack

import listening
from wan import NEAREST, World, note, running_world, wait_until
from wan_browser import Page, browsing

PUBLISHER, RECEIVER = "client-bogota", "client-milan"
ROOM = "lip-sync"
JITTER_MS = 30
SEEN_WITHIN_S = 45
SETTLES_S, WATCHED_S = 10, 60
PERIOD_S, FLASH_S = 1.5, 0.2
LEAST_PAIRS = 30
MAX_APART_P95_MS = 80
MAX_PACKETS_PER_S = 35
"""Silence is not sent (DTX); Opus takes a while to be sure that it is one. Without that there are 50."""

FLASHING = """(() => {
    const PERIOD_S = %(period)s, FLASH_S = %(flash)s;
    const start = () => {
        const context = new AudioContext();
        const [tone, gain, microphone] = [context.createOscillator(), context.createGain(), context.createMediaStreamDestination()];
        tone.frequency.value = 1000;
        gain.gain.value = 0;
        tone.connect(gain).connect(microphone);
        tone.start();
        let scheduled = 0;
        const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
        const brush = canvas.getContext("2d");
        setInterval(() => {
            const second = context.currentTime;
            for (; scheduled < second + PERIOD_S; scheduled += PERIOD_S) {
                gain.gain.setValueAtTime(0.5, scheduled);
                gain.gain.setValueAtTime(0, scheduled + FLASH_S);
            }
            brush.fillStyle = second %% PERIOD_S < FLASH_S ? "white" : "black";
            brush.fillRect(0, 0, canvas.width, canvas.height);
            // Something moves, so that every picture is sent.
            brush.fillStyle = "gray";
            brush.fillRect((second * 100) %% canvas.width, 300, 20, 20);
        }, 16);
        return { audio: microphone.stream.getAudioTracks()[0], video: canvas.captureStream(30).getVideoTracks()[0] };
    };
    let tracks;
    navigator.mediaDevices.getUserMedia = async (constraints) => {
        tracks ??= start();
        const wanted = ["audio", "video"].filter((kind) => constraints[kind]);
        return new MediaStream(wanted.map((kind) => tracks[kind].clone()));
    };
})()""" % {"period": PERIOD_S, "flash": FLASH_S}
"""Instead of camera and microphone: both follow the clock of one audio context. Runs before the page's own scripts."""

OBSERVING = """(async () => {
    const WATCHED_MS = %(watched)s, SILENT_MS = 500;
    const published = window.__isthmus.room.participants.flatMap((participant) => participant.publications);
    const track = (source) => published.find((one) => one.source === source)?.mediaTrack;
    const onsets = { flash: [], beep: [] };
    const video = Object.assign(document.createElement("video"), { muted: true, srcObject: new MediaStream([track("camera")]) });
    document.body.append(video);
    await video.play();
    const brush = Object.assign(document.createElement("canvas"), { width: 16, height: 9 }).getContext("2d", { willReadFrequently: true });
    let wasBright = true;
    const look = (_, { expectedDisplayTime }) => {
        brush.drawImage(video, 0, 0, 16, 9);
        const isBright = brush.getImageData(8, 2, 1, 1).data[1] > 128;
        if (isBright && !wasBright) onsets.flash.push(expectedDisplayTime);
        wasBright = isBright;
        video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    const context = new AudioContext({ sampleRate: 48000 });
    const analyser = context.createAnalyser();
    analyser.fftSize = 4096;
    context.createMediaStreamSource(new MediaStream([track("microphone")])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let lastLoudMs = performance.now();
    const listen = setInterval(() => {
        const now = performance.now();
        analyser.getFloatTimeDomainData(samples);
        const first = samples.findIndex((sample) => Math.abs(sample) > 0.05);
        if (first < 0) return;
        const at = now - (samples.length - first) / 48;
        if (at - lastLoudMs > SILENT_MS) onsets.beep.push(at);
        lastLoudMs = now;
    }, 5);
    await new Promise((resolve) => setTimeout(resolve, WATCHED_MS));
    clearInterval(listen);
    return onsets;
})()"""


def apart_ms(onsets: dict[str, list[float]]) -> list[float]:
    """By how much each flash was shown later than the beep that belongs to it was played."""
    nearest = [(flash, min(onsets["beep"], key=lambda beep: abs(beep - flash), default=None)) for flash in onsets["flash"]]
    return [flash - beep for flash, beep in nearest if beep is not None and abs(flash - beep) < 500 * PERIOD_S]


def observed(page: Page, for_s: float) -> list[float]:
    """What is seen and heard from now on."""
    onsets = page.evaluate(OBSERVING % {"watched": 1000 * for_s})
    note(f"{onsets}")
    return apart_ms(onsets)


def check(world: World) -> bool:
    """Prints the figure; returns whether it is good enough."""
    for client in (PUBLISHER, RECEIVER):
        world.set_link(client, NEAREST[client], "--jitter-ms", str(JITTER_MS), "--loss", "0")
    with ExitStack() as browsers:
        door = world.url(NEAREST[PUBLISHER])
        browsers.enter_context(browsing(world.hosts[PUBLISHER], trusted=door)).join(door, ROOM, FLASHING)
        page = browsers.enter_context(browsing(world.hosts[RECEIVER]))
        page.join(world.url(NEAREST[RECEIVER]), ROOM)
        if wait_until(lambda: page.picture().frames > 0 and page.sound().packets > 0, SEEN_WITHIN_S) is None:
            print(f"not seen and heard within {SEEN_WITHIN_S} s: {page.picture()}, {page.sound()}")
            return False
        observed(page, SETTLES_S)
        packets = page.sound().packets
        apart = observed(page, WATCHED_S)
        packets = page.sound().packets - packets
    if len(apart) < LEAST_PAIRS:
        print(f"{len(apart)} flashes with a beep in {WATCHED_S} s: too few to judge by")
        return False
    p95 = listening.quantile([abs(ms) for ms in apart], 0.95)
    print(
        f"{NEAREST[PUBLISHER]} to {NEAREST[RECEIVER]}, jitter {JITTER_MS} ms each way: {len(apart)} flashes and beeps, picture behind sound by "
        f"{listening.quantile(apart, 0.5):.0f} ms p50, apart {p95:.0f} ms p95; {packets / WATCHED_S:.0f} packets of sound a second, silent {100 * (1 - FLASH_S / PERIOD_S):.0f} % of the time"
    )
    return p95 <= MAX_APART_P95_MS and packets / WATCHED_S <= MAX_PACKETS_PER_S


if __name__ == "__main__":
    with running_world() as world:
        sys.exit(not check(world))
