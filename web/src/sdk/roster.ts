import type { Participant, ParticipantId, PopId, Slot, SlotState, Source, Track, TrackId } from "./protocol.gen";

/** A track someone else publishes, and how it reaches us. */
export interface RemoteTrackPublication extends Track {
  /** The media, while the track stands in one of our slots. */
  readonly mediaTrack: MediaStreamTrack | undefined;
  /** Whether the slot's media is being sent; undefined without a slot. */
  readonly slotState: SlotState | undefined;
}

/** Someone else in the room. A new value each time something about them changes. */
export interface RemoteParticipant {
  readonly id: ParticipantId;
  readonly identity: string;
  readonly name: string;
  readonly pop: PopId;
  /** Stays the same through reconnections, so that people keep their place on the screen. */
  readonly place: number;
  readonly publications: readonly RemoteTrackPublication[];
}

export type RosterChange =
  | { type: "joined"; participant: RemoteParticipant }
  | { type: "left"; participant: RemoteParticipant }
  | { type: "updated"; participant: RemoteParticipant }
  | { type: "published"; participant: RemoteParticipant; publication: RemoteTrackPublication }
  | { type: "unpublished"; participant: RemoteParticipant; publication: RemoteTrackPublication }
  | { type: "muted"; participant: RemoteParticipant; publication: RemoteTrackPublication };

/** Who else is in the room, what they publish, and which of it stands in our slots. */
export class Roster {
  readonly #people = new Map<ParticipantId, RemoteParticipant>();
  /** Every stay of our own: an earlier one may stand in the roster until its node notices. */
  readonly #own = new Set<ParticipantId>();
  /** The place of every stay so far, so that someone who is lost and comes back finds theirs again. */
  readonly #places = new Map<ParticipantId, number>();

  get participants(): RemoteParticipant[] {
    return [...this.#people.values()].toSorted((a, b) => a.place - b.place);
  }

  get(id: ParticipantId): RemoteParticipant | undefined {
    return this.#people.get(id);
  }

  /** Takes the whole roster of a welcome. */
  welcome(ownId: ParticipantId, participants: readonly Participant[]): RosterChange[] {
    this.#own.add(ownId);
    const present = new Set(participants.map((participant) => participant.id));
    const gone = [...this.#people.keys()].filter((id) => !present.has(id));
    return [...participants.flatMap((participant) => this.update(participant)), ...gone.flatMap((id) => this.remove(id))];
  }

  /** Takes the whole of what is known of one participant; `replaces` is an earlier stay of the same person. */
  update(participant: Participant, replaces?: ParticipantId): RosterChange[] {
    if (this.#own.has(participant.id)) return [];
    const earlier = this.#people.get(participant.id) ?? (replaces === undefined ? undefined : this.#people.get(replaces));
    if (earlier !== undefined) this.#people.delete(earlier.id);
    const next: RemoteParticipant = {
      id: participant.id,
      identity: participant.identity,
      name: participant.name,
      pop: participant.pop,
      place: this.#placeOf(participant.id, replaces),
      publications: participant.tracks.map((track) => publicationOf(track, earlier)),
    };
    this.#people.set(next.id, next);
    const arrival: RosterChange = { type: earlier === undefined ? "joined" : "updated", participant: next };
    return [arrival, ...publicationChanges(earlier, next)];
  }

  remove(id: ParticipantId): RosterChange[] {
    const participant = this.#people.get(id);
    if (participant === undefined) return [];
    this.#people.delete(id);
    return [{ type: "left", participant }];
  }

  #placeOf(id: ParticipantId, replaces: ParticipantId | undefined): number {
    const earlier = replaces === undefined ? undefined : this.#places.get(replaces);
    const place = this.#places.get(id) ?? earlier ?? this.#places.size;
    this.#places.set(id, place);
    return place;
  }

  /** Maps what stands in our slots onto the publications. `trackOf` gives the media of an m-line. */
  fillSlots(slots: readonly Slot[], trackOf: (mid: string) => MediaStreamTrack | undefined): void {
    const byTrack = new Map(slots.flatMap((slot) => (slot.content ? [[slot.content.track, slot] as const] : [])));
    for (const [id, participant] of this.#people) {
      const publications = participant.publications.map((publication) => {
        const slot = byTrack.get(publication.id);
        const mediaTrack = slot && trackOf(slot.mid);
        const slotState = slot?.content?.state;
        const same = publication.mediaTrack === mediaTrack && publication.slotState === slotState;
        return same ? publication : { ...publication, mediaTrack, slotState };
      });
      const changed = publications.some((publication, index) => publication !== participant.publications[index]);
      if (changed) this.#people.set(id, { ...participant, publications });
    }
  }
}

/** Which track of a person's new stay takes the place of which of an earlier one: the one of the same source. */
export function successors(earlier: RemoteParticipant, next: Participant): Map<TrackId, TrackId> {
  const pairs = earlier.publications.flatMap(({ id, source }): [TrackId, TrackId][] => {
    const track = next.tracks.find((candidate) => candidate.source === source);
    return track === undefined ? [] : [[id, track.id]];
  });
  return new Map(pairs);
}

/** The publication of that source, if there is one. */
export function publicationFor(participant: RemoteParticipant, source: Source): RemoteTrackPublication | undefined {
  return participant.publications.find((publication) => publication.source === source);
}

function publicationOf(track: Track, earlier: RemoteParticipant | undefined): RemoteTrackPublication {
  const before = earlier?.publications.find((publication) => publication.id === track.id);
  return { ...track, mediaTrack: before?.mediaTrack, slotState: before?.slotState };
}

function publicationChanges(earlier: RemoteParticipant | undefined, next: RemoteParticipant): RosterChange[] {
  const before = new Map<TrackId, RemoteTrackPublication>(earlier?.publications.map((p) => [p.id, p]) ?? []);
  const changes: RosterChange[] = [];
  for (const publication of next.publications) {
    const known = before.get(publication.id);
    before.delete(publication.id);
    if (known === undefined) changes.push({ type: "published", participant: next, publication });
    else if (known.muted !== publication.muted) changes.push({ type: "muted", participant: next, publication });
  }
  for (const publication of before.values()) changes.push({ type: "unpublished", participant: next, publication });
  return changes;
}
