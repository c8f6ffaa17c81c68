#!/usr/bin/env python3
"""Records how large the frames are that Chromium's VP8 encoder makes of a picture that moves as a person before a camera does,
at the bitrate that the web app allows for 1280x720. Writes chromium-vp8.sizes: a line for each frame, `key` or `delta` and its
bytes. The result is committed; run this again only to change it.

    apt-get install chromium; python3 loadtest/media/chromium_sizes.py

The page draws on a canvas (no camera is needed), sends it over a peer connection to itself, and reads the sizes of encoded
frames where the sender hands them on (RTCRtpSender.createEncodedStreams).
"""

import http.server
import json
import pathlib
import subprocess
import tempfile
import threading

FRAMES = 300
SKIPPED = 300  # while the encoder finds its rate
WITHIN_S = 90
BITRATE = 1_500_000

PAGE = """<!doctype html><canvas id=c width=1280 height=720></canvas><script>
const FRAMES = %(frames)d, SKIPPED = %(skipped)d;
const canvas = document.getElementById('c'), draw = canvas.getContext('2d');
// One seed, one film.
let seed = 1; const random = () => (seed = (seed * 16807) %% 2147483647) / 2147483647;
const grain = [0, 1, 2, 3].map(() => { const g = new OffscreenCanvas(320, 180), x = g.getContext('2d'), i = x.createImageData(320, 180);
  for (let n = 0; n < i.data.length; n += 4) { i.data[n] = i.data[n+1] = i.data[n+2] = 255 * random(); i.data[n+3] = 10; }
  x.putImageData(i, 0, 0); return g; });
const shelf = [...Array(60)].map(() => [1280 * random(), 720 * random(), 20 + 90 * random(), `hsl(${360 * random()} 30%% ${20 + 50 * random()}%%)`]);
let n = 0;
function frame() {
  const t = n++ / 30, sway = 40 * Math.sin(t * 0.9) + 15 * Math.sin(t * 2.3), nod = 12 * Math.sin(t * 1.7);
  const light = draw.createLinearGradient(0, 0, 1280, 720);
  light.addColorStop(0, '#c9bfae'); light.addColorStop(1, '#5d6470');
  draw.fillStyle = light; draw.fillRect(0, 0, 1280, 720);
  for (const [x, y, size, colour] of shelf) { draw.fillStyle = colour; draw.fillRect(x, y, size, size * 0.4); }
  draw.fillStyle = '#2f3b52'; draw.beginPath(); draw.ellipse(640 + sway, 760, 380, 300, 0, 0, 7); draw.fill();
  draw.fillStyle = '#d8a98a'; draw.beginPath(); draw.ellipse(640 + sway * 1.3, 330 + nod, 150, 200, sway / 900, 0, 7); draw.fill();
  draw.fillStyle = '#3a2a20'; draw.beginPath(); draw.ellipse(640 + sway * 1.3, 190 + nod, 160, 90, 0, 0, 7); draw.fill();
  for (const side of [-1, 1]) { draw.fillStyle = '#222'; draw.beginPath();
    draw.ellipse(640 + sway * 1.3 + side * 55, 310 + nod, 16, (n %% 95) < 4 ? 2 : 10, 0, 0, 7); draw.fill(); }
  draw.fillStyle = '#8c3b3b'; draw.beginPath();
  draw.ellipse(640 + sway * 1.3, 430 + nod, 45, 8 + 14 * Math.abs(Math.sin(t * 9) * Math.sin(t * 1.3)), 0, 0, 7); draw.fill();
  // Hands, now and then.
  if (Math.sin(t * 0.7) > 0.4) { draw.fillStyle = '#d8a98a'; draw.beginPath();
    draw.ellipse(330 + 90 * Math.sin(t * 5), 560 + 60 * Math.cos(t * 4), 60, 80, t, 0, 7); draw.fill(); }
  draw.drawImage(grain[n %% 4], 0, 0, 1280, 720);
}
setInterval(frame, 1000 / 30);
(async () => {
  const send = new RTCPeerConnection({encodedInsertableStreams: true}), receive = new RTCPeerConnection();
  send.onicecandidate = e => e.candidate && receive.addIceCandidate(e.candidate);
  receive.onicecandidate = e => e.candidate && send.addIceCandidate(e.candidate);
  const [track] = canvas.captureStream(30).getVideoTracks(); track.contentHint = 'motion';
  const {sender} = send.addTransceiver(track, {direction: 'sendonly', sendEncodings: [{maxBitrate: %(bitrate)d}]});
  send.getTransceivers()[0].setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(c => c.mimeType === 'video/VP8'));
  const sizes = []; let seen = 0, asked = false;
  const {readable, writable} = sender.createEncodedStreams();
  readable.pipeThrough(new TransformStream({transform(frame, out) {
    out.enqueue(frame);
    // From a keyframe on, when the rate is found.
    if (++seen > SKIPPED && (sizes.length || frame.type === 'key')) sizes.push([frame.type, frame.data.byteLength]);
    // As when someone joins and asks for one.
    if (seen > SKIPPED && !asked) { asked = true; sender.setParameters(sender.getParameters(), {encodingOptions: [{keyFrame: true}]}); }
    if (sizes.length === FRAMES) fetch('/sizes', {method: 'POST', body: JSON.stringify(sizes)});
  }})).pipeTo(writable);
  await send.setLocalDescription(); await receive.setRemoteDescription(send.localDescription);
  await receive.setLocalDescription(); await send.setRemoteDescription(receive.localDescription);
})();
</script>""" % {"frames": FRAMES, "skipped": SKIPPED, "bitrate": BITRATE}


def main() -> None:
    sizes: list[tuple[str, int]] = []
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if not sizes:
                sizes.extend(json.loads(body))
            done.set()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            if not done.wait(WITHIN_S):
                raise SystemExit(f"Chromium sent no {FRAMES} frames within {WITHIN_S} s")
        finally:
            browser.terminate()
            browser.wait()
    if sizes[0][0] != "key":
        raise SystemExit("the recording does not begin with a keyframe")
    out = pathlib.Path(__file__).with_name("chromium-vp8.sizes")
    out.write_text("".join(f"{kind} {size}\n" for kind, size in sizes))
    total = sum(size for _, size in sizes)
    keys = sum(kind == "key" for kind, _ in sizes)
    print(f"{len(sizes)} frames, {keys} keyframes, {total * 8 * 30 / len(sizes) / 1e6:.2f} Mbit/s at 30 frames/s")


main()
