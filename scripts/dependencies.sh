#!/usr/bin/env bash
# Refuses dependencies that must not be in the tree: a second crypto library, or a licence outside the list.
# Rust as cargo resolves it for this platform (`cargo metadata` also lists what no feature asks for); the web app by its lock file.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo tree --locked --workspace --edges normal,build,dev --prefix none --no-dedupe --format '{p}|{l}' |
  sort -u | node scripts/dependencies.mjs web/package-lock.json
