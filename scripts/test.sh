#!/usr/bin/env bash
# Runs everything that has to be green, in phases: formatting, lints, documentation, every test.
# Installs PostgreSQL, PgBouncer, Redis, nginx, HAProxy, Caddy, openssl, Python, Node.js and Chromium
# from the distribution where they are absent (Debian, Ubuntu), and leaves no process and no directory
# behind. What clients and pages are tested with comes from npm and PyPI, into target/.
set -euo pipefail
cd "$(dirname "$0")/.."

have_postgres() { [ -n "${DATABASE_URL:-}" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; }

missing=()
have_postgres || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v openssl >/dev/null || missing+=(openssl)
command -v curl >/dev/null || missing+=(curl)
for proxy in nginx haproxy caddy; do
  command -v $proxy >/dev/null || [ -x /usr/sbin/$proxy ] || missing+=($proxy)
done
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
command -v git >/dev/null || missing+=(git)
command -v python3 >/dev/null || missing+=(python3)
/usr/bin/python3 -c 'import authlib, requests' 2>/dev/null || missing+=(python3-authlib python3-requests)
/usr/bin/python3 -c 'import django, httpx, starlette' 2>/dev/null || missing+=(python3-django python3-httpx python3-starlette)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || missing+=(chromium)
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

# Only what these tests leave behind is found there.
parent=${TMPDIR:-/tmp}
log=$(mktemp "$parent/sessiond-log-XXXXXX")
TMPDIR=$(mktemp -d "$parent/sessiond-XXXXXX")
export TMPDIR
# Like /tmp: private servers run as another user where the caller is root.
chmod 1777 "$TMPDIR"

SECONDS=0
current=start
table=""
counted=""
total=0
report() {
  status=$?
  rm -rf "$TMPDIR" "$log"
  [ $status -eq 0 ] || echo "FAILED in the phase \"$current\", after $(minutes $SECONDS) in all." >&2
}
trap report EXIT

minutes() { if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi; }

# phase NAME COMMAND...: runs the command, says how long it took, and counts the tests that passed.
phase() {
  current=$1
  local began=$SECONDS passed took
  shift
  echo "=== $current"
  "$@" 2>&1 | tee "$log"
  passed=$(awk '/^test result: ok\./ { sum += $4 } END { print sum + 0 }' "$log")
  total=$((total + passed))
  if [ "$passed" -gt 0 ]; then counted="$counted${counted:+, }$current $passed"; else passed=""; fi
  took=$(minutes $((SECONDS - began)))
  echo "=== $current took $took"
  table="$table$(printf '%-20s %7s   %s' "$current" "$passed" "$took")"$'\n'
}

# tests TARGETS...: runs these test targets of the whole workspace, so that nothing is compiled for one of them alone.
tests() { cargo test --workspace --quiet "$@"; }

# Tests that wait for servers and clocks share a core.
waiting_tests=$(($(nproc) * 3))
adapters=$(for file in crates/adapters-*/tests/*.rs crates/testkit/tests/*.rs; do basename "$file" .rs; done | sort -u | sed 's/^/--test /')

phase formatting cargo fmt --all --check
phase lints cargo clippy --workspace --all-targets --quiet -- --deny warnings
phase documentation env RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
phase compiling cargo test --workspace --no-run --quiet
phase unit tests --lib --bins --test http --test architecture
phase "documentation tests" tests --doc
phase model tests --test coherence_model
# shellcheck disable=SC2086 # a list of words
phase adapters tests $adapters
phase documents tests --test documents
phase "end to end" tests --test end_to_end -- --test-threads "$waiting_tests"
phase clients tests --test clients
phase browser tests --test browser
phase history tests --test history

current="cleaning up"
# The supervisors of private servers need some time after the last test.
for _ in $(seq 50); do
  left=$(ls -A "$TMPDIR")
  [ -z "$left" ] && break
  sleep 0.2
done
if [ -n "$left" ]; then
  echo "left behind: $left" >&2
  exit 1
fi

printf '\n%-20s %7s   %s\n%s\n' phase tests time "$table"
echo "All is well: formatting, lints, documentation, and $total tests ($counted) in $(minutes $SECONDS)."
