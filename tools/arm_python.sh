#!/usr/bin/env bash
# Runs Python for Arm under qemu: tools/arm_python.sh ROOT PROCESSOR ARGUMENT...   (ROOT: of tools/arm_root.sh)
#
# Processors: cortex-a53, cortex-a72, cortex-a76, and max, which is everything that this qemu has but SME: with it, LiteRT's
# own convolutions are wrong under Debian 12's qemu (their numbers are not those of its plain kernels).
set -euo pipefail
root=$(cd "$1" && pwd)
processor=$2
shift 2
# LiteRT reads the part's number from /proc/cpuinfo, where this machine's says nothing of Arm: it would crash.
declare -A parts=([cortex-a53]=0xd03 [cortex-a72]=0xd08 [cortex-a76]=0xd0b [max]=0xd40)
part=${parts[$processor]:?arm_python: expected one of ${!parts[*]}, got $processor}
mkdir -p "$root/proc"
for i in 0 1; do
  printf 'processor\t: %d\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 0\n\n' \
    "$i" "$part"
done >"$root/proc/cpuinfo"
[ "$processor" = max ] && processor=max,sme=off
export PYTHONPATH="$root/packages${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
exec qemu-aarch64 -L "$root" -cpu "$processor" "$root/usr/bin/python3.11" "$@"
