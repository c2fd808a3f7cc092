#!/usr/bin/env bash
# Installs the wheels of tools/wheels.sh and uses them, away from the sources: tools/wheel_test.sh FOLDER [ARM-ROOT]
#
# x86_64: in a clean environment, with all that the package requires. aarch64: under qemu, with numpy and LiteRT alone:
# whole networks answer as here, on four processors, and every builtin operator is the stock interpreter's.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheels=$(cd "$1" && pwd)
arm=${2:-$wheels/arm}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/tools/make_venv.sh" "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check "$wheels"/keras_dbq-*_x86_64.whl
cp "$root"/tools/{smoke_test,arm_networks,arm_check}.py "$work"
# Its packages stand beside the wheel: what the tests are made of, and nothing of the sources' package.
mkdir "$work/tests" && cp -r "$root/tests/tflite_ops" "$work/tests" && touch "$work/tests/__init__.py"
cd "$work"
"$python" smoke_test.py
mkdir networks && "$python" arm_networks.py networks

PYTHON=$python "$root/tools/arm_root.sh" "$arm"
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --upgrade \
  --target "$work/arm" --platform manylinux_2_17_aarch64 --only-binary=:all: "$wheels"/keras_dbq-*_aarch64.whl
export PYTHONPATH=$work/arm
for processor in cortex-a53 cortex-a72 cortex-a76 max; do
  echo "$processor"
  "$root/tools/arm_python.sh" "$arm" "$processor" arm_check.py networks
  "$root/tools/arm_python.sh" "$arm" "$processor" tests/tflite_ops/builtin_worker.py \
    "$work/arm/keras_dbq/libdbq_delegate.so" litert 30 >pins.json
  "$python" tests/tflite_ops/builtin_report.py aarch64 pins.json
done
# The command needs no TensorFlow either, for what it does with files.
"$root/tools/arm_python.sh" "$arm" cortex-a72 -m keras_dbq inspect networks/resnet_packed.tflite >inspect.txt
"$root/tools/arm_python.sh" "$arm" cortex-a72 -m keras_dbq unpack networks/resnet_packed.tflite -o unpacked.tflite
grep -q DbqConv2D inspect.txt
echo "wheel test: passed"
