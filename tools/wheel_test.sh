#!/usr/bin/env bash
# Builds the wheel, installs it into a clean environment and uses it from a temporary folder, away from the sources.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/tools/make_venv.sh" "$work/venv"
"$work/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" "$root"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$work"/dist/keras_dbq-*.whl
cd "$work"
cp "$root/tools/smoke_test.py" .
"$work/venv/bin/python" smoke_test.py
