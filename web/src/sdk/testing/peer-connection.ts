import { DEPENDENCY_DESCRIPTOR } from "../scalability";

/** A peer connection that negotiates with nobody: enough of one to follow what the SDK asks of it. */
export class ScriptedPeerConnection {
  onicecandidate: ((event: RTCPeerConnectionIceEvent) => void) | null = null;
  oniceconnectionstatechange: ((event: Event) => void) | null = null;
  iceConnectionState: RTCIceConnectionState = "new";
  signalingState: RTCSignalingState = "stable";
  localDescription: RTCSessionDescriptionInit | null = null;
  readonly transceivers: ScriptedTransceiver[] = [];
  iceRestarts = 0;
  /** Packets that arrived so far; see `arrive`. */
  arrivals = 0;
  #offers = 0;

  addTransceiver(kind: "audio" | "video", init: RTCRtpTransceiverInit = {}): ScriptedTransceiver {
    const transceiver = new ScriptedTransceiver(kind, init);
    this.transceivers.push(transceiver);
    return transceiver;
  }

  createOffer(): Promise<RTCSessionDescriptionInit> {
    this.#offers += 1;
    return Promise.resolve({ type: "offer", sdp: `offer ${this.#offers}` });
  }

  setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    if (this.signalingState !== "stable") return Promise.reject(new Error(`offer in ${this.signalingState}`));
    this.signalingState = "have-local-offer";
    this.localDescription = description;
    this.transceivers.forEach((transceiver, index) => {
      transceiver.mid ??= String(index);
    });
    return Promise.resolve();
  }

  setRemoteDescription(): Promise<void> {
    this.signalingState = "stable";
    return Promise.resolve();
  }

  restartIce(): void {
    this.iceRestarts += 1;
  }

  getStats(): Promise<ReadonlyMap<string, unknown>> {
    const transport = { id: "T", type: "transport", packetsReceived: this.arrivals };
    return Promise.resolve(new Map([["T", transport]]));
  }

  close(): void {
    this.signalingState = "closed";
  }

  turnIce(state: RTCIceConnectionState): void {
    this.iceConnectionState = state;
    this.oniceconnectionstatechange?.({} as Event);
  }
}

export class ScriptedTransceiver {
  mid: string | null = null;
  direction: RTCRtpTransceiverDirection;
  readonly receiver: { track: MediaStreamTrack };
  readonly sender: {
    track: MediaStreamTrack | null;
    replaceTrack(track: MediaStreamTrack | null): Promise<void>;
    getParameters(): RTCRtpSendParameters;
    setParameters(parameters: RTCRtpSendParameters): Promise<void>;
  };
  encodings: RTCRtpEncodingParameters[];
  /** Those it may send in; all if none are named. */
  codecs: string[] = [];
  /** A browser that knows the dependency descriptor, and does not offer it unless it is told to. */
  #extensions = [
    { uri: "urn:ietf:params:rtp-hdrext:sdes:mid", direction: "sendrecv" as RTCRtpTransceiverDirection },
    { uri: DEPENDENCY_DESCRIPTOR, direction: "stopped" as RTCRtpTransceiverDirection },
  ];

  constructor(kind: "audio" | "video", init: RTCRtpTransceiverInit) {
    this.direction = init.direction ?? "sendrecv";
    this.encodings = init.sendEncodings ?? [{}];
    this.receiver = { track: scriptedTrack(kind) };
    this.sender = {
      track: null,
      replaceTrack: (track) => {
        this.sender.track = track;
        return Promise.resolve();
      },
      getParameters: () => ({ encodings: this.encodings.map((encoding) => ({ ...encoding })) }) as RTCRtpSendParameters,
      setParameters: ({ encodings }) => {
        this.encodings = encodings;
        return Promise.resolve();
      },
    };
  }

  setCodecPreferences(codecs: RTCRtpCodec[]): void {
    this.codecs = codecs.map(({ mimeType }) => mimeType);
  }

  getHeaderExtensionsToNegotiate(): { uri: string; direction: RTCRtpTransceiverDirection }[] {
    return this.#extensions.map((extension) => ({ ...extension }));
  }

  setHeaderExtensionsToNegotiate(extensions: { uri: string; direction: RTCRtpTransceiverDirection }[]): void {
    this.#extensions = extensions.map((extension) => ({ ...extension }));
  }
}

let tracks = 0;

export function scriptedTrack(kind: "audio" | "video", settings: MediaTrackSettings = {}): MediaStreamTrack {
  tracks += 1;
  const track = Object.assign(new EventTarget(), {
    id: `track-${tracks}`,
    kind,
    enabled: true,
    muted: false,
    readyState: "live",
    getSettings: () => settings,
    stop: () => {
      track.readyState = "ended";
    },
  });
  return track as unknown as MediaStreamTrack;
}
