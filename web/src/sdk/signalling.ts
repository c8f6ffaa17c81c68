import type { Cancel, Environment, Socket } from "./environment";
import {
  PROTOCOL_VERSION,
  SUBPROTOCOL,
  TOKEN_SUBPROTOCOL_PREFIX,
  type ClientMessage,
  type Code,
  type Hello,
  type ServerMessage,
} from "./protocol.gen";

/** How long a door may take from the first packet to the welcome. */
export const WELCOME_TIMEOUT_MS = 4000;
/** How often the socket is asked for a sign of life. */
export const PING_INTERVAL_MS = 5000;
/** How long the answer may take. */
export const PONG_TIMEOUT_MS = 3000;

export interface SignallingOptions {
  /** Origin of the door: `https://zurich.example.org`. */
  door: string;
  token: string;
  hello: Omit<Hello, "version" | "token">;
}

/** How a socket ended. */
export type Closed =
  /** It never came to a welcome, and the door gave no reason. */
  | { kind: "unreachable" }
  /** The door or node refused with a code. */
  | { kind: "refused"; code: Code; detail: string }
  /** It stood, and is gone. */
  | { kind: "lost" };

export interface SignallingHandlers {
  /** The socket is open and the hello is sent; what is sent from now on follows it. */
  opened(): void;
  message(message: ServerMessage): void;
  /** Called once, unless `close` was called first. */
  closed(closed: Closed): void;
}

/** One WebSocket from hello to close. A lost one is not reopened here: that is another one. */
export class Signalling {
  readonly #environment: Environment;
  readonly #handlers: SignallingHandlers;
  readonly #socket: Socket;
  #state: "opening" | "greeting" | "welcomed" | "closed" = "opening";
  #cancelTimer: Cancel;
  #lastPing = 0;
  #refusal: Closed | undefined;

  constructor(environment: Environment, options: SignallingOptions, handlers: SignallingHandlers) {
    this.#environment = environment;
    this.#handlers = handlers;
    const url = `${options.door.replace(/^http/, "ws")}/v1/signal`;
    this.#socket = environment.openSocket(url, [SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX + options.token]);
    this.#socket.onopen = () => this.#open(options.hello);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = () => this.#end();
    this.#cancelTimer = environment.after(WELCOME_TIMEOUT_MS, () => this.#end());
  }

  /** Sends, if the socket is open. What is lost otherwise is part of the state that a resume sends again. */
  send(message: ClientMessage): void {
    if (this.#state === "greeting" || this.#state === "welcomed") this.#socket.send(JSON.stringify(message));
  }

  /** Closes without a word to the handlers. */
  close(): void {
    this.#state = "closed";
    this.#cancelTimer();
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  #open(hello: SignallingOptions["hello"]): void {
    this.#state = "greeting";
    this.send({ type: "hello", version: PROTOCOL_VERSION, ...hello });
    this.#handlers.opened();
  }

  #receive(data: unknown): void {
    const message = parse(data);
    if (message === undefined) return;
    switch (message.type) {
      case "welcome":
        this.#state = "welcomed";
        this.#cancelTimer();
        this.#sendPing();
        break;
      case "pong":
        if (message.id === this.#lastPing) this.#answered();
        return;
      case "error":
        if (!message.fatal) break;
        this.#refusal = { kind: "refused", code: message.code, detail: message.detail };
        this.#end();
        return;
      default:
    }
    this.#handlers.message(message);
  }

  #sendPing(): void {
    this.#lastPing += 1;
    this.send({ type: "ping", id: this.#lastPing });
    this.#cancelTimer = this.#environment.after(PONG_TIMEOUT_MS, () => this.#end());
  }

  #answered(): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#environment.after(PING_INTERVAL_MS, () => this.#sendPing());
  }

  #end(): void {
    if (this.#state === "closed") return;
    const closed = this.#refusal ?? ({ kind: this.#state === "welcomed" ? "lost" : "unreachable" } as const);
    this.close();
    this.#handlers.closed(closed);
  }
}

/** Undefined for what is not a message: a newer node may say things this client does not know. */
function parse(data: unknown): ServerMessage | undefined {
  if (typeof data !== "string") return undefined;
  try {
    const message: unknown = JSON.parse(data);
    const typed = typeof message === "object" && message !== null && "type" in message;
    return typed ? (message as ServerMessage) : undefined;
  } catch {
    return undefined;
  }
}
