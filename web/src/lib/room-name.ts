const FEELS = "amber brave bright calm clear coral early fair gentle golden green happy kind light lucky mellow mild misty noble quick quiet rapid silver smooth soft still sunny swift warm wild".split(" ");
const THINGS = "bay beach canal cedar cliff cloud coast cove creek dune field forest garden gull harbor heron island lagoon lake maple meadow moon ocean otter palm reef river stone tide willow".split(" ");
/** Without the letters and digits that look alike. */
const CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789";
const CODE_LENGTH = 8;

/** A room name that can be read aloud and not be guessed: two words, and 8 characters with about 39 bits. */
export function newRoomName(): string {
  const picks = crypto.getRandomValues(new Uint32Array(2 + CODE_LENGTH));
  const pick = <Item>(items: ArrayLike<Item>, index: number) => items[(picks[index] ?? 0) % items.length];
  const code = Array.from({ length: CODE_LENGTH }, (_, index) => pick(CODE_ALPHABET, index + 2)).join("");
  return `${pick(FEELS, 0)}-${pick(THINGS, 1)}-${code}`;
}

/** The room in what someone typed or pasted: a link, or a name with spaces in it. Undefined if there is none. */
export function roomFromInput(input: string): string | undefined {
  const path = /\/r\/([^/?#\s]+)/.exec(input)?.[1];
  const name = (path ?? input).trim().replace(/\s+/g, "-");
  return isRoomName(name) ? name : undefined;
}

/** As `RoomId` in the protocol. */
export function isRoomName(name: string): boolean {
  return /^[A-Za-z0-9._:-]{1,64}$/.test(name);
}
