#!/usr/bin/env bash
# One check with real browsers, by the name of its test in web/e2e: `scripts/browser-check.sh 'NAME'`. What the check
# measured is the last line on standard output; everything else goes to standard error. A name that no test has fails.
set -euo pipefail
cd "$(dirname "$0")/../web"
name=$1
figure=$(mktemp)
trap 'rm -f "$figure"' EXIT

status=0
ISTHMUS_FIGURE=$figure npx --no-install vitest run --config e2e/vitest.config.ts --project calls --project long \
  --testNamePattern "^$(sed 's/[][(){}.*+?^$|\\]/\\&/g' <<<"$name")\$" >&2 || status=$?
if [ ! -s "$figure" ]; then
  echo "no test named '$name' measured anything"
  exit 1
fi
cat "$figure"
exit "$status"
