/**
 * What the SDK needs of the world it runs in. Everything with a clock, a socket or a device comes through here, so
 * that tests run on a virtual clock and scripted servers, and so that the SDK assumes no document and no window.
 */
export interface Environment {
  fetch(url: string, init?: RequestInit): Promise<Response>;
  openSocket(url: string, protocols: string[]): Socket;
  createPeerConnection(configuration: RTCConfiguration): RTCPeerConnection;
  /** What pictures can be sent in. */
  videoCodecs(): RTCRtpCodec[];
  readonly mediaDevices: Devices | undefined;
  /** Calls back once after `delayMs`; the returned function cancels. */
  after(delayMs: number, callback: () => void): Cancel;
  /** Milliseconds on a clock that never goes back. */
  now(): number;
  /** From 0 (included) to 1 (excluded). */
  random(): number;
  /** Does `action` while no other tab of this origin does one of that name. */
  exclusively<Result>(name: string, action: () => Promise<Result>): Promise<Result>;
  /** Calls back when the way to the internet may have changed: another network, online again. */
  onNetworkChange(callback: () => void): Cancel;
}

export type Cancel = () => void;

/** The part of a WebSocket the SDK uses. */
export interface Socket {
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** The part of `navigator.mediaDevices` the SDK uses. */
export type Devices = Pick<
  MediaDevices,
  "getUserMedia" | "getDisplayMedia" | "enumerateDevices" | "addEventListener" | "removeEventListener"
>;

/** The environment of a browser page. */
export function browserEnvironment(): Environment {
  return {
    fetch: (url, init) => fetch(url, init),
    openSocket: (url, protocols) => new WebSocket(url, protocols),
    createPeerConnection: (configuration) => new RTCPeerConnection(configuration),
    videoCodecs: () => RTCRtpSender.getCapabilities("video")?.codecs ?? [],
    // Browsers hide mediaDevices on insecure origins, whatever the types say.
    mediaDevices: (navigator as { mediaDevices?: MediaDevices }).mediaDevices,
    after: (delayMs, callback) => {
      const timer = setTimeout(callback, delayMs);
      return () => clearTimeout(timer);
    },
    now: () => performance.now(),
    random: () => Math.random(),
    exclusively: (name, action) => {
      const locks = (navigator as { locks?: LockManager }).locks;
      return locks === undefined ? action() : locks.request(name, action);
    },
    onNetworkChange: (callback) => {
      const connection = (navigator as { connection?: EventTarget & { type?: string } }).connection;
      let type = connection?.type;
      // The event also comes with every new estimate of the bandwidth, which is no other network.
      const onChange = () => {
        if (connection?.type === type) return;
        type = connection?.type;
        callback();
      };
      globalThis.addEventListener("online", callback);
      connection?.addEventListener("change", onChange);
      return () => {
        globalThis.removeEventListener("online", callback);
        connection?.removeEventListener("change", onChange);
      };
    },
  };
}
