#!/usr/bin/env bash
# Refuses dependencies that must not be in the tree: a second crypto library, or a licence outside the list.
# Rust by `cargo metadata` for the platform we ship, the web app by its lock file.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu |
  node scripts/dependencies.mjs web/package-lock.json
