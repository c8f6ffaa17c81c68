#!/usr/bin/env bash
# The evidence of one area, or of all: `scripts/evidence.sh [AREA]`. Runs each check of scripts/evidence/AREA.tsv, prints a line
# for each, `PASS|FAIL area figure goal command`, writes docs/evidence/AREA.md and exits non-zero if any failed.
#
# A check is one line of that file, three columns parted by tabs: seconds it may take, goal, command. The command's last line
# on standard output is the figure; its exit status says whether the goal is met. A check that is missing or cannot run fails.
set -euo pipefail
cd "$(dirname "$0")/.."

AREAS=(calls-across-pops media people phone faults operations trust)
export PATH="$PWD/target/release:$PATH"
failed=0

# Prints a line and adds it to the area's page.
record() {
  local outcome=$1 area=$2 figure=$3 goal=$4 command=$5
  printf '%s %s %s %s %s\n' "$outcome" "$area" "$figure" "$goal" "$command"
  printf '| %s | %s | %s | `%s` |\n' "$outcome" "${figure//|/\\|}" "${goal//|/\\|}" "$command" >>"docs/evidence/$area.md"
  [ "$outcome" = PASS ] || failed=1
}

check() {
  local area=$1 limit_s=$2 goal=$3 command=$4 output status=0 figure outcome=PASS
  output=$(timeout --kill-after=10 "$limit_s" bash -c "$command" 2>>"docs/evidence/$area.log") || status=$?
  printf '%s\n' "$output" >>"docs/evidence/$area.log"
  figure=$(tail -n 1 <<<"$output")
  case $status in
    0) ;;
    124 | 137) outcome=FAIL figure="not done within $limit_s s" ;;
    *) outcome=FAIL figure="${figure:-exit status $status}" ;;
  esac
  record "$outcome" "$area" "${figure:-no figure}" "$goal" "$command"
}

area() {
  local area=$1 checks=scripts/evidence/$1.tsv limit_s goal command version
  # Before the page is written anew, which would itself be a change.
  version=$(git describe --always --dirty)
  mkdir -p docs/evidence
  : >"docs/evidence/$area.log"
  {
    printf '# Evidence: %s\n\n' "$area"
    printf 'Written by `make evidence AREA=%s` at %s on %s cores.\n\n' \
      "$area" "$version" "$(nproc)"
    printf '| outcome | figure | goal | command |\n|---|---|---|---|\n'
  } >"docs/evidence/$area.md"
  if [ ! -e "$checks" ]; then
    record FAIL "$area" 'no checks are written' "$checks" "make evidence AREA=$area"
    return
  fi
  while IFS=$'\t' read -r limit_s goal command <&3; do
    [ -n "$command" ] && check "$area" "$limit_s" "$goal" "$command"
  done 3< <(grep -v '^#' "$checks")
}

if [ $# -gt 0 ]; then AREAS=("$@"); fi
for name in "${AREAS[@]}"; do area "$name"; done
exit "$failed"
