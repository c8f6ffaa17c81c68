// Generated from protocol/src by `make generate`. Do not edit: a test compares it with the Rust types.

/**
 * A point of presence: `panama`, `singapore`, `zurich`.
 */
export type PopId = string;

/**
 * A process of the cluster that carries media or opens doors, unique in the whole cluster: `panama-sfu-1`.
 */
export type NodeId = string;

/**
 * A room, as it stands in the link people share.
 */
export type RoomId = string;

/**
 * One stay of one client in one room. A client that resumes keeps it; one that restarts elsewhere gets a new one.
 */
export type ParticipantId = string;

/**
 * One published audio or video track, all its layers together, unique in the whole cluster.
 */
export type TrackId = string;

/**
 * A string that does not show itself in logs.
 */
export type Secret = string;

/**
 * What a client sends.
 */
export type ClientMessage = { "type": "hello" } & Hello | { "type": "offer", 
/**
 * Counts the client's offers from 1.
 */
revision: number, 
/**
 * The offer.
 */
sdp: string, 
/**
 * What the client's sending m-lines carry. An m-line that is not named is taken as a microphone or camera.
 */
tracks: Array<OfferedTrack>, } | { "type": "candidate", 
/**
 * The candidate attribute's value.
 */
candidate: string, } | { "type": "view", 
/**
 * At most [`MAX_TILES`].
 */
tiles: Array<Tile>, } | { "type": "mute", 
/**
 * The m-line of the track.
 */
mid: string, 
/**
 * Whether it is muted now.
 */
muted: boolean, } | { "type": "ping", 
/**
 * Comes back as it is.
 */
id: number, } | { "type": "leave" };

/**
 * The first message on a socket.
 */
export type Hello = { 
/**
 * [`VERSION`].
 */
version: number, 
/**
 * The room token, if it was not offered as a subprotocol.
 */
token?: Secret, 
/**
 * The room to join; it must be the token's.
 */
room: RoomId, 
/**
 * The name others see. The token's own name, if it has one, wins.
 */
name: string, 
/**
 * Set to take up a session whose socket was lost.
 */
resume?: Resume, 
/**
 * Set when the client joins anew after its PoP was lost: the stay this one takes the place of, so that nobody
 * sees it twice.
 */
replaces?: ParticipantId, };

/**
 * Which session to take up. The token says whose it is: it must be of the same identity and room.
 */
export type Resume = { 
/**
 * From [`ServerMessage::Welcome`].
 */
participant: ParticipantId, 
/**
 * From [`ServerMessage::Welcome`].
 */
node: NodeId, };

/**
 * What one of the client's sending m-lines carries.
 */
export type OfferedTrack = { 
/**
 * The m-line.
 */
mid: string, 
/**
 * What it shows or lets hear.
 */
source: Source, 
/**
 * Whether it starts muted.
 */
muted: boolean, };

/**
 * What a track shows or lets hear.
 */
export type Source = "microphone" | "camera" | "screen" | "screen_audio";

/**
 * Audio or video.
 */
export type Kind = "audio" | "video";

/**
 * A track that the client shows.
 */
export type Tile = { 
/**
 * The track.
 */
track: TrackId, 
/**
 * The height it is shown at, in device pixels: the node sends no layer much larger.
 */
height: number, };

/**
 * What the node sends (and the door, for what goes wrong before a node has the session).
 */
export type ServerMessage = { "type": "welcome" } & Welcome | { "type": "answer", 
/**
 * The offer's revision.
 */
revision: number, 
/**
 * The answer.
 */
sdp: string, } | { "type": "participant", 
/**
 * The participant as they are now.
 */
participant: Participant, 
/**
 * The stay this one takes the place of: same person, new connection.
 */
replaces?: ParticipantId, } | { "type": "left", 
/**
 * Who.
 */
participant: ParticipantId, 
/**
 * Why.
 */
reason: LeaveReason, } | { "type": "slots", 
/**
 * One entry for each `recvonly` m-line that was answered.
 */
slots: Array<Slot>, } | { "type": "speakers", 
/**
 * At most [`MAX_SPEAKERS`].
 */
speakers: Array<ParticipantId>, } | { "type": "layers", 
/**
 * The m-line of the track.
 */
mid: string, 
/**
 * The rids that are shown somewhere, lowest first; empty when nobody shows the track.
 */
rids: Array<string>, } | { "type": "bandwidth", 
/**
 * In kbit/s.
 */
estimate_kbps: number, } | { "type": "move", 
/**
 * Seconds until the session ends here.
 */
deadline_s: number, } | { "type": "pong", 
/**
 * The ping's id.
 */
id: number, } | { "type": "error", 
/**
 * The stable code.
 */
code: Code, 
/**
 * What happened, to what, and what to do.
 */
detail: string, 
/**
 * Whether the session ended with it.
 */
fatal: boolean, 
/**
 * The revision of the offer, if that is what was refused: there will be no answer to it.
 */
revision?: number, } | { "type": "ended", 
/**
 * Why.
 */
reason: LeaveReason, };

/**
 * A session that stands.
 */
export type Welcome = { 
/**
 * The protocol version the session speaks.
 */
version: number, 
/**
 * The client's own id in the room.
 */
participant: ParticipantId, 
/**
 * The PoP that carries the session.
 */
pop: PopId, 
/**
 * The node that carries it; for [`Resume`].
 */
node: NodeId, 
/**
 * Whether the client may publish.
 */
may_publish: boolean, 
/**
 * Everyone in the room, the client included.
 */
participants: Array<Participant>, 
/**
 * Whether this is a session taken up again.
 */
resumed: boolean, };

/**
 * Someone in the room.
 */
export type Participant = { 
/**
 * This stay.
 */
id: ParticipantId, 
/**
 * Who it is, from the token; the same person on two devices has it twice.
 */
identity: string, 
/**
 * The name to show.
 */
name: string, 
/**
 * The PoP they are connected to.
 */
pop: PopId, 
/**
 * What they publish.
 */
tracks: Array<Track>, };

/**
 * Something published.
 */
export type Track = { 
/**
 * The track.
 */
id: TrackId, 
/**
 * What it shows or lets hear.
 */
source: Source, 
/**
 * Whether its publisher has muted it.
 */
muted: boolean, 
/**
 * The simulcast rids it is offered in, lowest first; empty for a single layer.
 */
rids: Array<string>, };

/**
 * One receive slot of the client.
 */
export type Slot = { 
/**
 * The m-line.
 */
mid: string, 
/**
 * What stands in it, if anything does.
 */
content: SlotContent | null, };

/**
 * What stands in a slot.
 */
export type SlotContent = { 
/**
 * The track.
 */
track: TrackId, 
/**
 * Who publishes it.
 */
participant: ParticipantId, 
/**
 * The layer that is being sent, for a simulcast track.
 */
rid?: string, 
/**
 * Whether anything is being sent.
 */
state: SlotState, };

/**
 * Whether a slot's track is being sent.
 */
export type SlotState = "live" | "paused" | "unsupported";

/**
 * Why a stay in a room ended.
 */
export type LeaveReason = "left" | "connection_lost" | "node_lost" | "replaced" | "removed" | "drained" | "fault";

/**
 * `GET /v1/pops`: every PoP, the best for this caller first.
 */
export type PopList = { 
/**
 * Best first. A client probes the first few and connects to the fastest that answers.
 */
pops: Array<PopEntry>, 
/**
 * The list may be kept this long, in seconds.
 */
max_age_s: number, 
/**
 * Set by a development door that adds delay to probes as if the caller were in this place.
 */
as_if?: string, };

/**
 * One PoP as seen for one caller.
 */
export type PopEntry = { 
/**
 * The PoP.
 */
id: PopId, 
/**
 * The region it stands in, for people: "Zurich, Switzerland".
 */
region: string, 
/**
 * Origin of its public door: `https://zurich.example.org`.
 */
url: string, 
/**
 * Estimated round trip between the caller and the PoP, in milliseconds.
 */
rtt_ms: number, 
/**
 * Where the estimate comes from.
 */
rtt_source: RttSource, 
/**
 * How busy it is, from 0 (idle) to 1 (takes nobody new). From [`FULL_LOAD`] on it is a last resort.
 */
load: number, 
/**
 * What the load adds to a round trip when PoPs are compared, in milliseconds: nothing while there is room.
 */
load_cost_ms: number, 
/**
 * Whether it takes new calls.
 */
state: PopState, };

/**
 * Where a round-trip estimate comes from, the most trustworthy first.
 */
export type RttSource = "measured" | "geography" | "unknown";

/**
 * Whether a PoP takes new calls.
 */
export type PopState = "ready" | "draining" | "down";

/**
 * `POST /v1/measurements`: the round trips a client measured.
 */
export type Measurements = { 
/**
 * At most [`Measurements::MAX`] entries; more are refused.
 */
measurements: Array<Measurement>, };

/**
 * One PoP as measured by one client.
 */
export type Measurement = { 
/**
 * The PoP that was probed.
 */
pop: PopId, 
/**
 * The fastest of the probes, in milliseconds, above 0 and at most 10,000.
 */
rtt_ms: number, };

/**
 * What a guest says of themselves.
 */
export type GuestRequest = { 
/**
 * The name others see, 1 to 80 characters after trimming.
 */
name: string, };

/**
 * The token a guest joins with.
 */
export type GuestToken = { 
/**
 * The room the token is bound to.
 */
room: RoomId, 
/**
 * A room token (see [`crate::token`]).
 */
token: string, 
/**
 * Seconds until it expires.
 */
expires_in_s: number, };

/**
 * A person with an account, whatever devices and rooms they are on.
 */
export type PersonId = string;

/**
 * One device that a person is signed in on: a browser, an app.
 */
export type DeviceId = string;

/**
 * What others see. Any script; without what cannot be seen or turns other text around.
 */
export type DisplayName = string;

/**
 * The language that somebody is spoken to in (BCP 47): one of those that the app speaks.
 */
export type Locale = string;

/**
 * Where somebody lives, by ISO 3166-1: how their phone numbers are written.
 */
export type Country = string;

/**
 * A time zone of the IANA database. Whether there is such a one, the browser knows that shows it.
 */
export type TimeZone = string;

/**
 * What others see of somebody, and how they are spoken to.
 */
export type Profile = { 
/**
 * What they are called.
 */
name: DisplayName, 
/**
 * The language that they are spoken to in.
 */
locale: Locale, 
/**
 * Where they live.
 */
country: Country | null, 
/**
 * What their clocks show.
 */
time_zone: TimeZone | null, };

/**
 * `POST /v1/accounts`: an account for somebody who has none.
 */
export type Registration = { 
/**
 * Where mail goes.
 */
email: string, 
/**
 * 8 to 128 characters.
 */
password: string, 
/**
 * What others see.
 */
name: string, 
/**
 * The language that they are spoken to in.
 */
locale: Locale, 
/**
 * Where they live.
 */
country: Country | null, 
/**
 * What their clocks show.
 */
time_zone: TimeZone | null, 
/**
 * What the device is called in the list of devices: `Firefox on Linux`.
 */
device: string, };

/**
 * `POST /v1/sessions`: signing in on a device.
 */
export type SignIn = { 
/**
 * The account's address.
 */
email: string, 
/**
 * Its password.
 */
password: string, 
/**
 * What the device is called in the list of devices.
 */
device: string, };

/**
 * A device that is signed in. The refresh token is in a cookie that no script reads.
 */
export type SignedIn = { 
/**
 * Who.
 */
person: PersonId, 
/**
 * On which device.
 */
device: DeviceId, 
/**
 * An access token (see [`crate::token`]), good at every PoP.
 */
access_token: string, 
/**
 * Seconds until it expires.
 */
expires_in_s: number, };

/**
 * `POST /v1/sessions/renew`: another access token for the refresh token in the cookie, which is exchanged too.
 */
export type Renewal = { 
/**
 * Made up anew for each exchange and the same when it is repeated because no answer came: without it a repetition cannot be
 * told from a stolen token.
 */
attempt: string, };

/**
 * `GET /v1/me`: what somebody may see of their own account.
 */
export type Me = { 
/**
 * Who.
 */
person: PersonId, 
/**
 * What others see.
 */
profile: Profile, 
/**
 * The device that asks.
 */
device: DeviceId, };

/**
 * `GET /v1/devices`: where somebody is signed in.
 */
export type Devices = { 
/**
 * The one used last first.
 */
devices: Array<Device>, };

/**
 * A device that somebody is signed in on.
 */
export type Device = { 
/**
 * Which.
 */
id: DeviceId, 
/**
 * What it is called.
 */
name: string, 
/**
 * When it signed in, in seconds since the epoch.
 */
signed_in_at_s: number, 
/**
 * When it was last heard of, in seconds since the epoch.
 */
renewed_at_s: number, 
/**
 * Whether it is the one that asks.
 */
is_this: boolean, };

/**
 * `POST /v1/accounts/mails`: another mail with a link.
 */
export type MailRequest = { 
/**
 * The account's address. Whether there is one is not told.
 */
email: string, 
/**
 * What the link is to do.
 */
purpose: MailPurpose, };

/**
 * What a link in a mail does.
 */
export type MailPurpose = "verify" | "reset";

/**
 * `POST /v1/accounts/verification`: a link was followed that shows whose an address is.
 */
export type Verification = { 
/**
 * The account's address.
 */
email: string, 
/**
 * What the mail had.
 */
link: string, };

/**
 * `POST /v1/accounts/password`: a link was followed to choose another password. Every device is signed out.
 */
export type PasswordReset = { 
/**
 * The account's address.
 */
email: string, 
/**
 * What the mail had.
 */
link: string, 
/**
 * 8 to 128 characters.
 */
password: string, };

/**
 * An RFC 9457 problem document, media type `application/problem+json`.
 */
export type Problem = { 
/**
 * `about:blank#` and the code: a URI that identifies the kind of problem.
 */
type: string, 
/**
 * The same sentence for every problem of this kind.
 */
title: string, 
/**
 * The HTTP status.
 */
status: number, 
/**
 * What happened this time, to what, and what to do.
 */
detail: string, 
/**
 * The stable code.
 */
code: Code, 
/**
 * Of `not_home`: the origin of the door to ask instead, where one is known.
 */
at?: string | null, };

/**
 * Stable codes. A client may branch on them; their meaning does not change.
 */
export type Code = "invalid_request" | "unauthorized" | "token_expired" | "forbidden" | "origin_not_allowed" | "not_found" | "method_not_allowed" | "unsupported_media_type" | "too_large" | "rate_limited" | "invalid_sdp" | "room_full" | "session_gone" | "conflict" | "unsupported_version" | "draining" | "unavailable" | "not_home" | "email_taken" | "wrong_credentials" | "weak_password" | "link_invalid" | "link_expired" | "session_over" | "internal";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOL = "isthmus.v1";
export const TOKEN_SUBPROTOCOL_PREFIX = "isthmus.token.";
export const MAX_NAME_CHARS = 80;
export const MAX_TILES = 64;
export const MAX_SPEAKERS = 3;
export const RESUME_GRACE_S = 30;
export const FULL_LOAD = 0.9;
export const STAY_WITHIN_MS = 10;
export const STAY_WITHIN_SHARE = 0.15;
