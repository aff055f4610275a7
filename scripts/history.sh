#!/usr/bin/env bash
# Runs real nodes under faults and holds every response against what is promised (docs/coherence.md). The same seed means the
# same faults. With --bugs it hunts injected bugs instead, which shows that the check finds them.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: scripts/history.sh [--minutes N] [--seed N] [--faults PausedNode,CrashedDatabase,...]" >&2
  echo "       scripts/history.sh --bugs all|NAME,... [--seed N]" >&2
  exit 2
}

test=no_response_breaks_a_promise
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --minutes) export HISTORY_SECONDS=$(($2 * 60)) ;;
    --seed) export HISTORY_SEED=$2 ;;
    --faults) export HISTORY_FAULTS=$2 ;;
    --bugs)
      export HISTORY_BUGS=$2
      test=injected_bugs_are_found
      ;;
    *) usage ;;
  esac
  shift 2
done
exec cargo test --release --workspace --test history "$test" -- --nocapture
