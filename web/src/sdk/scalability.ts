/** AV1's RTP payload format, appendix A: what a frame depends on, told to servers for any codec. */
export const DEPENDENCY_DESCRIPTOR = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/** A codec that every current browser decodes, and whose slower layers can be had without the faster ones. */
const SCALABLE_CODEC = "video/VP9";

interface HeaderExtension {
  uri: string;
  direction: RTCRtpTransceiverDirection;
}

/** WebRTC Extensions, section 7: not in every browser. */
type Negotiating = RTCRtpTransceiver & {
  getHeaderExtensionsToNegotiate?(): HeaderExtension[];
  setHeaderExtensionsToNegotiate?(extensions: HeaderExtension[]): void;
};

/** Offers to tell, or to be told, what each frame depends on, where the browser can: so layers can be left out on the way. */
export function offerDependencies(transceiver: RTCRtpTransceiver): void {
  const negotiating = transceiver as Negotiating;
  const extensions = negotiating.getHeaderExtensionsToNegotiate?.() ?? [];
  const descriptor = extensions.find(({ uri }) => uri === DEPENDENCY_DESCRIPTOR);
  if (descriptor === undefined) return;
  descriptor.direction = "sendrecv";
  negotiating.setHeaderExtensionsToNegotiate?.(extensions);
}

/** Sends in a codec that has layers, of those `known`, where the browser can tell what depends on what; else as it likes. */
export function preferScalable(transceiver: RTCRtpTransceiver, known: RTCRtpCodec[]): void {
  if ((transceiver as Negotiating).setHeaderExtensionsToNegotiate === undefined) return;
  const scalable = known.filter(({ mimeType }) => mimeType === SCALABLE_CODEC);
  if (scalable.length === 0) return;
  // No other one: which of several is taken is for the answer to say. Repairs are offered beside what they repair.
  transceiver.setCodecPreferences([...scalable, ...known.filter(({ mimeType }) => mimeType === "video/rtx")]);
  offerDependencies(transceiver);
}
