#!/usr/bin/env bash
# Runs every fuzz target, for 300 seconds each, or as many as are named: scripts/fuzz.sh 60. Needs nightly Rust and cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-300}
targets=$(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | grep -v sessiond-fuzz)
cargo +nightly fuzz build
for target in $targets; do
  mkdir -p "fuzz/corpus/$target"
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -max_total_time="$seconds" -max_len=20000 -timeout=10
done
