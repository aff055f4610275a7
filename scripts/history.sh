#!/usr/bin/env bash
# Real nodes under faults, and every answer held against what is promised (docs/coherence.md). The same seed means the same faults.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "usage: scripts/history.sh [--minutes N] [--seed N] [--faults PausedNode,CrashedDatabase,...]" >&2; exit 2; }

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --minutes) export HISTORY_SECONDS=$(($2 * 60)) ;;
    --seed) export HISTORY_SEED=$2 ;;
    --faults) export HISTORY_FAULTS=$2 ;;
    *) usage ;;
  esac
  shift 2
done
exec cargo test --release --workspace --test history no_answer -- --nocapture
