#!/usr/bin/env bash
# Sends what the API description allows, and what it does not, to every route of a private node, and
# holds the responses against the description: no 5xx, no undocumented status, no field too many or
# too few. Takes the database's URL (default: a SQLite file). Needs schemathesis 4 from PyPI
# (`pip install schemathesis`) and curl.
#
# Two checks are left out where no schema can say what holds. Valid requests may be refused: an expiry
# must be in the future, ids and `all` exclude each other. And a query parameter without a value is an
# absent one. The streams are left out, because they do not end.
set -euo pipefail
store=${1:-}
cd "$(dirname "$0")/.."
if [ -z "${SESSIOND:-}" ]; then
  cargo build --quiet --package sessiond
  SESSIOND=$PWD/target/debug/sessiond
fi
venv=$PWD/target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==4.32.5"
fi
PATH=$venv/bin:$PATH
# In memory: a disk that is too slow would be reported as an outage.
dir=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
cd "$dir"
trap 'kill "$node" 2>/dev/null; wait "$node" 2>/dev/null; rm -rf "$dir"' EXIT
[ -z "$store" ] || export SESSIOND_STORE__URL=$store
SESSIOND_SERVER__LISTEN=127.0.0.1:0 SESSIOND_SERVER__SERVICE_LISTEN=127.0.0.1:0 \
  SESSIOND_SERVER__SHUTDOWN_DELAY=0s SESSIOND_LIMITS__USER_RATE=0 \
  SESSIOND_LIMITS__PEER_FAILURE_RATE=0 "$SESSIOND" >greeting 2>node.log &
node=$!
address() { sed -n "s|^ *$1 .* \(http://[^ ]*\)$|\1|p" greeting; }
for _ in $(seq 100); do
  service=$(address service)
  [ -n "$service" ] && curl -fsS "$service/readyz" >/dev/null 2>&1 && break
  kill -0 "$node" || { cat node.log >&2; exit 1; }
  sleep 0.1
done
public=$(address "end users")
key=$(cat sessiond-dev-service-key)
"$SESSIOND" openapi >openapi.json

checks=not_a_server_error,status_code_conformance,content_type_conformance
checks=$checks,response_schema_conformance,response_headers_conformance,unsupported_method
run() {
  schemathesis run openapi.json --no-color --max-examples "${EXAMPLES:-50}" "$@"
}
as_backend() {
  run --url "$service" -H "Authorization: Bearer $key" \
    --include-path-regex '^/(service|livez|readyz|metrics|openapi)' \
    --exclude-path-regex 'stream|forward-auth' "$@"
}
# With a session of its own: some calls end the session of the credential, or replace the credential.
as_end_user() {
  token=$(curl -fsS "$service/service/v1/sessions" -H "Authorization: Bearer $key" \
    -H 'Content-Type: application/json' \
    -d '{"user_id":"00000000-0000-4000-8000-00000000000a","issue_token":true}' |
    sed 's/.*"token":"\([^"]*\)".*/\1/')
  run --url "$public" -H "Authorization: Bearer $token" --exclude-path-regex 'watch' "$@"
}
no_change=(--exclude-method PATCH --exclude-method POST --exclude-method DELETE)
as_backend --checks "$checks" "${no_change[@]}"
as_backend --checks "$checks,negative_data_rejection" --exclude-method GET
as_end_user --checks "$checks" --include-path-regex '^/api' "${no_change[@]}"
as_end_user --checks "$checks,negative_data_rejection" --include-path-regex '^/api' \
  --exclude-method GET --exclude-method POST --exclude-method DELETE
as_end_user --checks "$checks" --include-path-regex '^/api' \
  --exclude-method GET --exclude-method POST --exclude-method PATCH
as_end_user --checks "$checks" --include-path-regex 'current/rotate$'
echo "All is well: no 5xx, and every response is as described."
