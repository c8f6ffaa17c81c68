#!/usr/bin/env bash
# Installs what is missing to build and test Isthmus on Debian; quick and silent when nothing is.
#   scripts/setup.sh            everything: building, tests, evidence
# With root it installs by apt-get and says what; without root it says the one line to run and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

# One line each: a command that must be there, the package it comes in, what for.
needs() {
  cat <<'TXT'
gcc gcc compiling C parts of the crypto library
g++ g++ compiling C parts of the crypto library
cmake cmake compiling C parts of the crypto library
make make this Makefile
git git version of the build
node nodejs the web app
npm npm the web app
chromium chromium browser tests
ip iproute2 network namespaces of the evidence
nft nftables faults of the evidence
firefox-esr firefox-esr browser tests with Firefox beside Chromium
python3 python3 evidence by clients nobody here wrote
certutil libnss3-tools browser tests that trust the development CA
janus janus the media server that make bench measures beside Isthmus
TXT
}

missing_packages() {
  local command package why
  while read -r command package why; do
    # System tools live in /usr/sbin, which is not on everybody's path.
    if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null; then
      echo "setup: $command is missing ($why)" >&2
      echo "$package"
    fi
  done < <(needs)
  # Debian packages what makes virtual environments apart from Python itself.
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    echo "setup: Python's venv is missing (evidence by clients nobody here wrote)" >&2
    echo python3-venv
  fi
  # One of the packages from requirements.txt is compiled.
  if ! python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
    echo "setup: Python's headers are missing (evidence that judges speech)" >&2
    echo python3-dev
  fi
  # Without a font, text in screenshots and layout tests has no shape.
  if ! fc-list 2>/dev/null | grep -q . && [ ! -d /usr/share/fonts/truetype ]; then
    echo "setup: no fonts are installed (browser tests)" >&2
    echo fonts-dejavu-core
  fi
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  [ ${#packages[@]} -eq 0 ] && return
  local line="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    echo "setup: run this once, then again what you ran:" >&2
    echo "  sudo sh -c '$line'" >&2
    exit 1
  fi
  echo "setup: installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive sh -c "$line" >/dev/null
  # Debian starts what it installs. The bench runs a Janus of its own; another one would only listen to the network.
  if [[ " ${packages[*]} " == *" janus "* ]] && [ -d /run/systemd/system ]; then systemctl disable --quiet --now janus; fi
}

check_rust() {
  command -v cargo >/dev/null && return
  echo "setup: cargo is missing: install Rust 1.95 or newer by rustup, then run again what you ran" >&2
  exit 1
}

check_node() {
  local major
  major=$(node --version | sed -E 's/^v([0-9]+).*/\1/')
  [ "$major" -ge 20 ] && return
  echo "setup: Node $major is too old: install Node 20 or newer, then run again what you ran" >&2
  exit 1
}

# The versions of the lock file. Not by `npm ci`: it refuses a lock without the optional binaries of every platform, and not
# every registry has those to lock. The stamp is the lock file that node_modules was made from.
install_web_packages() {
  local stamp=web/node_modules/.installed-from
  cmp -s web/package-lock.json "$stamp" && return
  echo "setup: installing the web app's packages"
  (cd web && npm install --no-save --no-audit --no-fund)
  cp web/package-lock.json "$stamp"
}

install_packages
check_rust
check_node
install_web_packages
