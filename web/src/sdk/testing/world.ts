import type { Cancel, Devices, Environment, Socket } from "../environment";
import type { ClientMessage, ServerMessage } from "../protocol.gen";

import { ScriptedPeerConnection } from "./peer-connection";

/** An environment with a clock that only tests move, and sockets and peer connections they script. */
export class World implements Environment {
  readonly sockets: ScriptedSocket[] = [];
  readonly peerConnections: ScriptedPeerConnection[] = [];
  mediaDevices: Devices | undefined = undefined;
  chance = 0;
  /** What a door does with a socket; by default nothing, as in a black hole. */
  onSocket: (socket: ScriptedSocket) => void = () => undefined;
  onFetch: (url: string, init?: RequestInit) => Promise<Response> = () => Promise.reject(new TypeError("offline"));
  #nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];
  #networkListeners = new Set<() => void>();

  fetch(url: string, init?: RequestInit): Promise<Response> {
    return this.onFetch(url, init);
  }

  openSocket(url: string, protocols: string[]): Socket {
    const socket = new ScriptedSocket(url, protocols);
    this.sockets.push(socket);
    this.onSocket(socket);
    return socket;
  }

  createPeerConnection(): RTCPeerConnection {
    const connection = new ScriptedPeerConnection();
    this.peerConnections.push(connection);
    return connection as unknown as RTCPeerConnection;
  }

  videoCodecs(): RTCRtpCodec[] {
    return ["VP8", "rtx", "VP9"].map((name) => ({ mimeType: `video/${name}`, clockRate: 90_000 }));
  }

  after(delayMs: number, callback: () => void): Cancel {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  now(): number {
    return this.#nowMs;
  }

  random(): number {
    return this.chance;
  }

  exclusively<Result>(_name: string, action: () => Promise<Result>): Promise<Result> {
    return action();
  }

  onNetworkChange(callback: () => void): Cancel {
    this.#networkListeners.add(callback);
    return () => this.#networkListeners.delete(callback);
  }

  changeNetwork(): void {
    for (const listener of this.#networkListeners) listener();
  }

  /** Lets the time pass, timer by timer, and whatever promises that sets off. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settled();
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#nowMs = next.atMs;
      next.callback();
      await settled();
    }
    this.#nowMs = untilMs;
  }

  get socket(): ScriptedSocket {
    const last = this.sockets.at(-1);
    if (last === undefined) throw new Error("No socket was opened");
    return last;
  }

  get peerConnection(): ScriptedPeerConnection {
    const last = this.peerConnections.at(-1);
    if (last === undefined) throw new Error("No peer connection was made");
    return last;
  }
}

/** Enough turns of the microtask queue for a chain of promises to finish. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve();
}

/** The client's side of a WebSocket, with the door's side as methods. */
export class ScriptedSocket implements Socket {
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  readonly sent: ClientMessage[] = [];
  closedByClient = false;

  readonly url: string;
  readonly protocols: string[];

  constructor(url: string, protocols: string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as ClientMessage);
  }

  close(): void {
    this.closedByClient = true;
  }

  accept(): void {
    this.onopen?.({} as Event);
  }

  deliver(message: ServerMessage): void {
    this.deliverText(JSON.stringify(message));
  }

  deliverText(text: string): void {
    this.onmessage?.({ data: text } as MessageEvent);
  }

  /** The connection is refused, or breaks. */
  drop(): void {
    this.onclose?.({ code: 1006 } as CloseEvent);
  }

  sentOf<Type extends ClientMessage["type"]>(type: Type): Extract<ClientMessage, { type: Type }>[] {
    return this.sent.filter((message) => message.type === type) as Extract<ClientMessage, { type: Type }>[];
  }
}
