import { expect, test } from "vitest";

import { qualityOf, sample } from "./stats";

function report(seconds: number): Map<string, unknown> {
  const rows = [
    { id: "P", type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.018, localCandidateId: "L", responsesReceived: 4 },
    { id: "L", type: "local-candidate", protocol: "udp" },
    { id: "T", type: "transport", packetsReceived: 100 * seconds },
    { id: "V", type: "inbound-rtp", kind: "video", mid: "4", bytesReceived: 125_000 * seconds, packetsReceived: 95 * seconds, packetsLost: 5 * seconds, jitter: 0.012, framesPerSecond: 30 },
    { id: "O", type: "outbound-rtp", kind: "video", rid: "f", bytesSent: 25_000 * seconds, frameHeight: 720 },
  ];
  return new Map(rows.map((row) => [row.id, row]));
}

function withoutTransport(seconds: number): Map<string, unknown> {
  const rows = report(seconds);
  rows.delete("T");
  return rows;
}

test("rates and loss are those since the last sample", () => {
  const first = sample(report(1), undefined, 1000);
  const second = sample(report(3), first.totals, 3000);
  expect(first.stats.inboundKbps).toBe(0);
  expect(second.stats).toMatchObject({ rttMs: 18, inboundKbps: 1000, outboundKbps: 200, loss: 0.05, jitterMs: 12, transport: "udp" });
  expect(second.stats.slots).toMatchObject([{ mid: "4", kbps: 1000, framesPerSecond: 30 }]);
  expect(second.stats.layers).toMatchObject([{ rid: "f", kbps: 200, height: 720 }]);
});

test("arrivals grow with the streams alone, where the browser has no count of the transport", () => {
  const before = sample(withoutTransport(1), undefined, 1000).arrivals;
  expect(sample(withoutTransport(1), undefined, 2000).arrivals).toBe(before);
  expect(sample(withoutTransport(2), undefined, 3000).arrivals).toBeGreaterThan(before);
});

test("quality follows the worst of loss, delay and jitter", () => {
  const { stats } = sample(report(1), undefined, 1000);
  expect(qualityOf(stats)).toBe("good");
  expect(qualityOf({ ...stats, loss: 0.05 })).toBe("fair");
  expect(qualityOf({ ...stats, rttMs: 400 })).toBe("fair");
  expect(qualityOf({ ...stats, jitterMs: 200 })).toBe("poor");
});
