#!/usr/bin/env bash
# Python with what the checks need: `evidence/python.sh SCRIPT [ARGUMENT...]`. The first call makes a virtual environment under
# target/ from requirements.txt and needs the package registry; later calls need no network until that file changes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=$here/../target/evidence-python
made=$environment/requirements.txt

make_environment() {
  rm -rf "$environment"
  if ! python3 -m venv "$environment" >&2; then
    echo 'evidence: Python 3.11 or later with venv is needed: apt-get install -y python3-venv' >&2
    exit 1
  fi
  "$environment/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-binary pesq --no-deps -r "$here/requirements.txt" >&2
  # Last: an environment that was left half made is made anew.
  cp "$here/requirements.txt" "$made"
}

# Checks may start at the same moment; one makes the environment, the others wait for it.
mkdir -p "$(dirname "$environment")"
exec 9>"$environment.lock"
flock 9
cmp -s "$here/requirements.txt" "$made" || make_environment
exec 9>&-
# Compiled modules would lie between the sources.
PYTHONDONTWRITEBYTECODE=1 exec "$environment/bin/python" "$@"
