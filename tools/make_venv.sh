#!/usr/bin/env bash
# Makes a virtual environment with pip: tools/make_venv.sh FOLDER   ($PYTHON: the interpreter, python3.11 by default)
#
# Debian splits ensurepip from its Python: where it is missing, virtualenv is tried, then the package python3-venv is
# installed by name (as root), else one line says what to do.
set -euo pipefail
folder=$1
python=${PYTHON:-python3.11}

if ! command -v "$python" >/dev/null; then
  if [ "$python" = python3.11 ] && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=python3
  else
    echo "make_venv: expected the interpreter $python, found none; run: apt-get install python3 python3-venv" >&2
    exit 1
  fi
fi

make_it() {
  rm -rf "$folder"
  "$@" "$folder" >/dev/null 2>&1 && "$folder/bin/python" -m pip --version >/dev/null 2>&1
}

make_it "$python" -m venv && exit 0
make_it "$python" -m virtualenv && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "make_venv: $python has no ensurepip, installing the package python3-venv"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
  make_it "$python" -m venv && exit 0
fi
rm -rf "$folder"
echo "make_venv: expected $python with venv and ensurepip, found neither them nor virtualenv; run: sudo apt-get install python3-venv" >&2
exit 1
