#!/bin/sh
# Makes the media that the headless client publishes: a moving test picture in three sizes as VP8 in IVF, and speech
# as Opus packets with their RFC 6464 levels. The results are committed; run this again only to change them.
#
# Needs: apt-get install ffmpeg espeak-ng python3
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One keyframe each, at the start: a keyframe request then shows, because nothing but the loop's end makes another.
camera() { # name size kbps
    ffmpeg -hide_banner -loglevel error -y -f lavfi -i "testsrc2=size=1280x720:rate=30:duration=5" \
        -vf "scale=$2,format=yuv420p" -c:v libvpx -b:v "$3k" -maxrate "$3k" -bufsize "$3k" -deadline good -cpu-used 4 \
        -g 9999 -keyint_min 9999 -auto-alt-ref 0 -error-resilient 1 -lag-in-frames 0 -fflags +bitexact \
        -flags:v +bitexact "camera-$1.ivf"
}
camera 180p 320x180 90
camera 360p 640x360 220
camera 720p 1280x720 850

espeak-ng -v en-us -s 150 -w "$work/speech.wav" \
    "Good morning, everyone. Can you hear me well? The picture is clear from here, and the sound is too."
ffmpeg -hide_banner -loglevel error -y -i "$work/speech.wav" -ac 1 -ar 48000 -af "apad=pad_dur=1" \
    -c:a pcm_s16le "$work/speech48.wav"
ffmpeg -hide_banner -loglevel error -y -i "$work/speech48.wav" -c:a libopus -b:a 28k -frame_duration 20 \
    -application voip -fflags +bitexact "$work/speech.ogg"
python3 opus_packets.py "$work/speech.ogg" "$work/speech48.wav" speech.opuspackets
ls -l camera-*.ivf speech.opuspackets
