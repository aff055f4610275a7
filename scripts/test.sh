#!/usr/bin/env bash
# Runs everything: formatting, lints, every test. Installs PostgreSQL, Redis and openssl from the distribution where they are
# absent (Debian, Ubuntu), and leaves no process and no directory behind.
set -euo pipefail
cd "$(dirname "$0")/.."

have_postgres() { [ -n "${DATABASE_URL:-}" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; }

missing=()
have_postgres || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v openssl >/dev/null || missing+=(openssl)
command -v curl >/dev/null || missing+=(curl)
command -v pkill >/dev/null || missing+=(procps)
command -v cc >/dev/null || missing+=(build-essential)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; exit 1; }
  echo "installing ${missing[*]}"
  as_root=$([ "$(id -u)" = 0 ] || echo sudo)
  $as_root apt-get update -qq
  # Only the programs are wanted: tests start private servers of their own.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# What the tests leave behind is found there, and nobody else's.
parent=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$parent/sessiond-XXXXXX")
export TMPDIR
# Like /tmp: private servers run as another user where the caller is root.
chmod 1777 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- --deny warnings
cargo test --workspace "$@"

# The supervisors of private servers need a moment after the last test.
for _ in $(seq 50); do
  left=$(ls -A "$TMPDIR")
  [ -z "$left" ] && break
  sleep 0.2
done
if [ -n "$left" ]; then
  echo "left behind: $left" >&2
  exit 1
fi
