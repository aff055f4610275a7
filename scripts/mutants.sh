#!/usr/bin/env bash
# Mutates the protocol that makes revocations final, one small change at a time, and lists the changes that no test of the
# mutated crate notices. There should be none but those that .cargo/mutants.toml excludes, each with its reason. Needs about an
# hour on two cores, so it is no part of scripts/test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo mutants --version >/dev/null 2>&1 || cargo install --locked cargo-mutants
# What earlier runs left, and what this one leaves.
output=target/mutants
mkdir -p "$output"
exec cargo mutants --package domain --package application \
  --file 'crates/domain/src/coherence/*.rs' --file 'crates/application/src/coherence/*.rs' \
  --output "$output" --baseline skip --timeout 120 --no-shuffle "$@"
