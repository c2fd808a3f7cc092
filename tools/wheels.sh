#!/usr/bin/env bash
# Makes the wheels of x86_64 and aarch64: tools/wheels.sh FOLDER [MACHINE...]
#
# The compiler is zig's, from PyPI, which links for any glibc from 2.17 on (manylinux2014), for either machine.
# auditwheel looks at what the library in the wheel needs, and names the wheel by it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
machines=("$@")
[ $# -gt 0 ] || machines=(x86_64 aarch64)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

environment=$root/.venv-wheels
python=$environment/bin/python
if ! "$python" -m auditwheel --version >/dev/null 2>&1; then
  "$root/tools/make_venv.sh" "$environment"
  "$python" -m pip install --quiet --disable-pip-version-check ziglang==0.17.1 auditwheel==6.8.2
fi
# The same sources give the same bytes, whenever they are built.
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 1577836800)
export SOURCE_DATE_EPOCH ZIG_GLOBAL_CACHE_DIR=$environment/cache

for machine in "${machines[@]}"; do
  rm -rf "$root/build" # nothing of another compiler
  CXX="$python -I $root/tools/zig_cxx.py $machine-linux-gnu.2.17" \
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$root"
  "$python" -m auditwheel repair --patcher none --wheel-dir "$work/tagged" "$work"/keras_dbq-*-linux_"$machine".whl
  rm -f "$folder"/keras_dbq-*_"$machine".whl
  if ! mv "$work"/tagged/keras_dbq-*manylinux_2_17_"$machine".whl "$folder"; then
    echo "wheels: expected a wheel for glibc 2.17, got $(ls "$work/tagged"); what does the library need?" >&2
    exit 1
  fi
done
rm -rf "$root/build"
ls -l "$folder"
