"""Turns an Ogg/Opus file into what `client::media::Speech` reads, with levels measured in the sound it was made from.

Each packet of 20 ms becomes: level (1 byte, RFC 6464: 0 loudest to 127 silent), length (2 bytes, big-endian), bytes.

usage: opus_packets.py SPEECH.ogg SPEECH.wav OUT
"""

import math
import struct
import sys
import wave

FRAME_SAMPLES = 960  # 20 ms at 48 kHz
HEADER_PACKETS = 2  # OpusHead and OpusTags (RFC 7845 section 3)


def ogg_packets(data):
    """The packets of an Ogg stream (RFC 3533 section 6): segments of 255 bytes go on in the next one."""
    at, packet = 0, b""
    while at < len(data):
        assert data[at : at + 4] == b"OggS", "not an Ogg page"
        lengths = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lengths)
        for length in lengths:
            packet += data[at : at + length]
            at += length
            if length < 255:
                yield packet
                packet = b""


def level(samples):
    """The level of samples in -dBov, which a square wave of full scale has as 0."""
    mean_square = sum(s * s for s in samples) / max(len(samples), 1)
    return 127 if mean_square < 1 else min(127, round(-10 * math.log10(mean_square / 32768**2)))


def main(ogg, wav, out):
    with wave.open(wav) as sound:
        samples = struct.unpack(f"<{sound.getnframes()}h", sound.readframes(sound.getnframes()))
    with open(ogg, "rb") as file:
        packets = list(ogg_packets(file.read()))[HEADER_PACKETS:]
    with open(out, "wb") as file:
        for index, packet in enumerate(packets):
            of_packet = samples[index * FRAME_SAMPLES : (index + 1) * FRAME_SAMPLES]
            file.write(struct.pack(">BH", level(of_packet), len(packet)) + packet)


main(*sys.argv[1:])
