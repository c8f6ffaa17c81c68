import type { PopEntry } from "../protocol.gen";

/** A PoP that is up and idle, 10 ms away as its clients measured, but for what the test says. */
export function popEntry(id: string, changes: Partial<PopEntry> = {}): PopEntry {
  return {
    id,
    region: id,
    url: `https://${id}.example.org`,
    rtt_ms: 10,
    rtt_source: "measured",
    load: 0,
    load_cost_ms: 0,
    state: "ready",
    ...changes,
  };
}
