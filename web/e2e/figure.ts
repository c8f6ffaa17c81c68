import { appendFileSync } from "node:fs";

/**
 * What a check measured, for the evidence: scripts/browser-check.sh says in ISTHMUS_FIGURE where it goes, in an
 * ordinary run of the tests it goes with their output. Give it before what is expected of it, so that a check that
 * fails says by how much.
 */
export function figure(text: string): void {
  const file = process.env["ISTHMUS_FIGURE"];
  if (file === undefined) process.stdout.write(`${text}\n`);
  else appendFileSync(file, `${text}\n`);
}
