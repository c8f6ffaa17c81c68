import { DEPENDENCY_DESCRIPTOR } from "@/sdk/scalability";

import type { ChromiumParticipant, Prepare } from "./browser";

interface Only {
  mimeType: string;
  direction: RTCRtpTransceiverDirection;
}

interface Scalable {
  scalabilityMode: string;
  descriptor: string;
}

type Listening = Window & { __voices?: Set<string> };

/** A page that sends video in no other codec, whatever the SDK prefers: `video/AV1`. */
export function sending(mimeType: string): Prepare {
  return (page) => page.addInitScript<Only>(restrictCodec, { mimeType, direction: "sendonly" });
}

/** A page that sends its camera as one scalable stream (`L2T3`: two sizes, three rates), and says what depends on what. */
export function scalable(mimeType: string, scalabilityMode: string): Prepare {
  return async (page) => {
    await sending(mimeType)(page);
    await page.addInitScript<Scalable>(scaleCamera, { scalabilityMode, descriptor: DEPENDENCY_DESCRIPTOR });
  };
}

/** A page that can show video in no other codec. */
export function receiving(mimeType: string): Prepare {
  return (page) => page.addInitScript<Only>(restrictCodec, { mimeType, direction: "recvonly" });
}

/** A page that notes in what its voices come: statistics tell of what is inside of redundancy, not of redundancy. */
export const notingVoices: Prepare = (page) => page.addInitScript(noteVoices);

/** The codecs of all voices so far of a page that notes them. */
export function voicesOf(participant: ChromiumParticipant): Promise<string[]> {
  return participant.evaluate(() => [...((window as Listening).__voices ?? [])], undefined);
}

/** Runs in a page before its own scripts. */
function restrictCodec({ mimeType, direction }: Only): void {
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function restricted(trackOrKind, init) {
    const transceiver = Reflect.apply(add, this, [trackOrKind, init]) as RTCRtpTransceiver;
    if (trackOrKind === "video" && init?.direction === direction) {
      const known = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
      const wanted = known.filter((codec) => codec.mimeType === mimeType);
      if (wanted.length === 0) throw new Error(`This browser has no ${mimeType}`);
      // Repairs are offered beside whatever they repair.
      transceiver.setCodecPreferences([...wanted, ...known.filter((codec) => codec.mimeType === "video/rtx")]);
    }
    return transceiver;
  };
}

/** Runs in a page before its own scripts. */
function scaleCamera({ scalabilityMode, descriptor }: Scalable): void {
  type Negotiating = RTCRtpTransceiver & {
    getHeaderExtensionsToNegotiate(): { uri: string; direction: string }[];
    setHeaderExtensionsToNegotiate(extensions: { uri: string; direction: string }[]): void;
  };
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function scaled(trackOrKind, init) {
    const isCamera = (init?.sendEncodings?.length ?? 0) > 1;
    const encoding = { scalabilityMode, maxBitrate: 1_000_000 } as RTCRtpEncodingParameters;
    const own = isCamera ? { ...init, sendEncodings: [encoding] } : init;
    const transceiver = Reflect.apply(add, this, [trackOrKind, own]) as Negotiating;
    if (isCamera) {
      const extensions = transceiver.getHeaderExtensionsToNegotiate();
      for (const extension of extensions) if (extension.uri === descriptor) extension.direction = "sendrecv";
      transceiver.setHeaderExtensionsToNegotiate(extensions);
    }
    return transceiver;
  };
}

/** Runs in a page before its own scripts: hands everything received on as it is, and looks at the voices. */
function noteVoices(): void {
  type Piped = RTCRtpReceiver & { createEncodedStreams(): ReadableWritablePair<RTCEncodedAudioFrame, RTCEncodedAudioFrame> };
  const voices = new Set<string>();
  (window as Listening).__voices = voices;
  const Plain = RTCPeerConnection;
  window.RTCPeerConnection = class extends Plain {
    constructor(configuration?: RTCConfiguration) {
      super({ ...configuration, encodedInsertableStreams: true } as RTCConfiguration);
    }

    override addTransceiver(trackOrKind: MediaStreamTrack | string, init?: RTCRtpTransceiverInit): RTCRtpTransceiver {
      const transceiver = super.addTransceiver(trackOrKind, init);
      if (init?.direction === "recvonly") {
        const { readable, writable } = (transceiver.receiver as Piped).createEncodedStreams();
        const look = new TransformStream<RTCEncodedAudioFrame, RTCEncodedAudioFrame>({
          transform(frame, controller) {
            if (trackOrKind === "audio") voices.add(frame.getMetadata().mimeType ?? "unknown");
            controller.enqueue(frame);
          },
        });
        void readable.pipeThrough(look).pipeTo(writable);
      }
      return transceiver;
    }
  };
}
