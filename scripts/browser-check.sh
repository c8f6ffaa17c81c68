#!/usr/bin/env bash
# One check with real browsers, by the name of its test in web/e2e: `scripts/browser-check.sh 'NAME'`. The last line on standard
# output is what the check measured or, if it failed before it measured anything, why; everything else goes to standard
# error. A name that no test has fails.
set -euo pipefail
cd "$(dirname "$0")/../web"
name=$1
figure=$(mktemp)
report=$(mktemp)
trap 'rm -f "$figure" "$report"' EXIT

# What vitest's JSON says of a run without a figure: that no test has the name, or what ended the one that has.
reason() {
  node - "$report" "$name" <<'JS'
const [report, name] = process.argv.slice(2);
const firstLine = (text) => text.replace(/\u001b\[[0-9;]*m/g, "").split("\n").find((line) => line.trim() !== "");
const said = require("node:fs").readFileSync(report, "utf8");
if (said === "") {
  console.log("the tests could not be run: see the log");
} else {
  const files = JSON.parse(said).testResults;
  const run = files.flatMap((file) => file.assertionResults).filter((test) => test.status === "passed" || test.status === "failed");
  const failures = [...run.flatMap((test) => test.failureMessages), ...files.map((file) => file.message)].filter(Boolean);
  if (failures.length > 0) console.log(`failed before it measured anything: ${firstLine(failures[0])}`);
  else if (run.length === 0) console.log(`no test is named '${name}'`);
  else console.log("the test passed and measured nothing");
}
JS
}

status=0
ISTHMUS_FIGURE=$figure npx --no-install vitest run --config e2e/vitest.config.ts --project calls --project long \
  --reporter=verbose --reporter=json --outputFile.json="$report" \
  --testNamePattern "^$(sed 's/[][(){}.*+?^$|\\]/\\&/g' <<<"$name")\$" >&2 || status=$?
if [ -s "$figure" ]; then
  cat "$figure"
  exit "$status"
fi
reason
exit 1
