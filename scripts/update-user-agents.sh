#!/usr/bin/env bash
# Makes crates/adapters-ua-parser/data/regexes.json again from the latest uap-core. Needs npm, and python3 with PyYAML.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent uap-core && tar xzf uap-core-*.tgz)
version=$(sed -n 's/.*"version": "\(.*\)".*/\1/p' "$work/package/package.json")
python3 - "$work/package/regexes.yaml" crates/adapters-ua-parser/data/regexes.json <<'EOF'
import json, sys, yaml

parsers = yaml.safe_load(open(sys.argv[1]))
# Of devices, only those that recognise crawlers are used.
parsers["device_parsers"] = [p for p in parsers["device_parsers"] if p.get("device_replacement") == "Spider"]
with open(sys.argv[2], "w") as out:
    lists = (json.dumps(name) + ": [\n" + ",\n".join(json.dumps(p, ensure_ascii=False) for p in items) + "\n]" for name, items in parsers.items())
    out.write("{\n" + ",\n".join(lists) + "\n}\n")
EOF
sed -i "s/uap-core) [0-9.]*,/uap-core) $version,/" crates/adapters-ua-parser/data/README.md
cargo test -p adapters-ua-parser
