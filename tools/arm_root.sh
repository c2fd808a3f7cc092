#!/usr/bin/env bash
# Makes a folder in which qemu-aarch64 finds Debian's Python 3.11 for Arm, with LiteRT and numpy: tools/arm_root.sh FOLDER
#
# Nothing is installed on this machine: apt works on lists and a cache inside of the folder. Needs apt, pip, qemu-user.
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=${PYTHON:-python3.11}
[ -f "$folder/.complete" ] && exit 0

apt=$folder/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$apt/state"
  -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
apt-get "${options[@]}" --yes --no-install-recommends --download-only install \
  python3.11-minimal libpython3.11-stdlib libstdc++6
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$folder"; done
rm -rf "$apt"

"$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/packages" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --python-version 3.11 --implementation cp --only-binary=:all: ai-edge-litert==2.3.0 numpy
touch "$folder/.complete"
