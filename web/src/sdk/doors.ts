import type { Environment } from "./environment";
import type { Code, GuestToken, Problem, RoomId } from "./protocol.gen";

/** A door's refusal, from its problem document (RFC 9457). */
export class DoorRefusal extends Error {
  readonly code: Code;
  readonly status: number;
  /** When asking again may help, in milliseconds from now, if the door says so. */
  readonly retryAfterMs: number | undefined;
  /** The origin of the door to ask instead, if another is to do it. */
  readonly at: string | undefined;

  constructor(problem: Pick<Problem, "code" | "status" | "detail"> & { at?: string | null }, retryAfterMs?: number) {
    super(problem.detail);
    this.name = "DoorRefusal";
    this.code = problem.code;
    this.status = problem.status;
    this.retryAfterMs = retryAfterMs;
    this.at = problem.at ?? undefined;
  }
}

/** How long a door may take to answer, in milliseconds. */
const ANSWER_TIMEOUT_MS = 4000;

/** Calls a door. Throws `DoorRefusal` if the door refuses, `TypeError` or `DOMException` if it is out of reach. */
export async function callDoor(environment: Environment, url: string, init: RequestInit = {}): Promise<Response> {
  const abort = new AbortController();
  const cancel = environment.after(ANSWER_TIMEOUT_MS, () => abort.abort());
  try {
    const response = await environment.fetch(url, { signal: abort.signal, credentials: "omit", ...init });
    if (!response.ok) throw await refusalOf(response);
    return response;
  } finally {
    cancel();
  }
}

/** Calls a door that answers with JSON. */
export async function askDoor<Answer>(environment: Environment, url: string, init?: RequestInit): Promise<Answer> {
  const response = await callDoor(environment, url, init);
  return (await response.json()) as Answer;
}

/** Someone who has a link and no account. */
export interface Guest {
  room: RoomId;
  name: string;
  /** A token that is still valid: the next one is for the same person. */
  token?: string;
}

/** A room token for a guest. */
export function requestGuestToken(environment: Environment, door: string, guest: Guest): Promise<GuestToken> {
  const { room, name, token } = guest;
  const bearer: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return askDoor(environment, `${door}/v1/rooms/${encodeURIComponent(room)}/guests`, jsonPost({ name }, bearer));
}

export function jsonPost(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
}

async function refusalOf(response: Response): Promise<DoorRefusal> {
  const problem = (await response.json().catch(() => undefined)) as Partial<Problem> | undefined;
  const refused = {
    code: problem?.code ?? (response.status === 429 ? "rate_limited" : "unavailable"),
    status: response.status,
    detail: problem?.detail ?? `The door answered with status ${response.status}.`,
    at: problem?.at,
  };
  // Whole seconds at our doors; a proxy before them may give a date, which is as good as nothing.
  const retryAfterS = Number(response.headers.get("retry-after"));
  return new DoorRefusal(refused, retryAfterS > 0 ? retryAfterS * 1000 : undefined);
}
