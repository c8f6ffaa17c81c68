#!/usr/bin/env bash
# Every test, in the order of their cost. A step that fails does not keep the later ones from running; the summary at the
# end says which failed and how long each took.
set -euo pipefail
cd "$(dirname "$0")/.."

# The programs come from the build that the tests are from. Built by themselves they would be built a second time, and clap and
# tracing-subscriber below them: proptest and tempfile switch on features of regex-syntax and rustix.
export PROGRAMS='--workspace --bins --tests'

declare -a summary
failed=0

step() {
  local name=$1 started=$SECONDS outcome=passed
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@" || { outcome=FAILED; failed=1; }
  summary+=("$(printf '%-6s %5d s  %s' "$outcome" "$((SECONDS - started))" "$name")")
}

step 'set-up' scripts/setup.sh
step 'Rust: builds' cargo test --release --workspace --no-run
step 'Rust: unit and cluster tests' make test-rust
step 'web: types and unit tests' make test-web
step 'browser, end to end' make test-browser

printf '\n== tests: summary\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
