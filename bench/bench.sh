#!/usr/bin/env bash
# Builds everything that is compared, and measures: bench/README.md. Arguments go to run.py.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
command -v wrk >/dev/null || missing+=(wrk)
command -v h2load >/dev/null || missing+=(nghttp2-client)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v node >/dev/null || missing+=(nodejs npm)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; exit 1; }
  as_root=$([ "$(id -u)" = 0 ] || echo sudo)
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

cargo build --quiet --release --workspace --bins --manifest-path ../Cargo.toml
cargo build --quiet --release --manifest-path rust/Cargo.toml
for peer in express better-auth; do
  npm ci --silent --no-audit --no-fund --prefix "$peer"
done
if [ ! -x django/venv/bin/gunicorn ]; then
  python3 -m venv django/venv
  django/venv/bin/pip install --quiet --requirement django/requirements.txt
fi

exec python3 run.py "$@"
