#!/usr/bin/env bash
# The C++ example and the Android library on the TensorFlow Lite that is published for Android, run here:
#   tools/android_test.sh PYTHON FOLDER      (PYTHON with keras_dbq installed; FOLDER keeps what was fetched and built)
#
# Both must answer as LiteRT's stock interpreter does to the int8 twins. Needs cmake, g++, mvn and a JDK.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export PYTHONSAFEPATH=1  # the installed package, not the sources beside which this runs
delegate=$("$python" -c 'from keras_dbq.runtime import interpreter; print(interpreter.delegate_path())')
jdk=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
classes=$folder/api/classes.jar:$folder/lite/classes.jar

"$python" "$root/tools/android_runtime.py" "$folder"
mkdir -p "$folder/codes" "$folder/classes"
"$python" "$root/tools/golden_codes.py" "$folder/codes" 2>/dev/null

cmake -S "$root/tflite_ops/examples" -B "$folder/example" \
  -DTFLITE_HEADERS="$folder/lite/headers" -DTFLITE_LIBRARY="$folder/linux/libtensorflowlite_jni.so"
cmake --build "$folder/example"
cmake -S "$root/tflite_ops/android/src/main/cpp" -B "$folder/jni" -DJNI_INCLUDE="$jdk/include;$jdk/include/linux"
cmake --build "$folder/jni" -j 2 --target dbq_delegate_jni
find "$root/tflite_ops/android/src" -name '*.java' -print0 |
  xargs -0 javac -Werror -Xlint:all,-options --release 8 -cp "$classes" -d "$folder/classes"

cd "$folder/codes"
on_android() { LD_LIBRARY_PATH=$folder/linux:$folder/jni LD_PRELOAD=liblog.so "$@" 2>log.txt || { cat log.txt >&2; return 1; }; }
for name in dbq_1 dbq_2; do
  for encoding in packed int8; do
    on_android "$folder/example/run_file" "${name}_$encoding.tflite" "$delegate" <"$name.in" >cpp.out
    cmp "$name.out" cpp.out
    on_android java -Djava.library.path="$folder/linux:$folder/jni" -cp "$folder/classes:$classes" \
      org.kerasdbq.RunFile "${name}_$encoding.tflite" "$name.in" java.out
    cmp "$name.out" java.out
  done
done
# Without the delegate the packed file must fail, or nothing above went through it.
if on_android "$folder/example/run_file" dbq_1_packed.tflite - <dbq_1.in >cpp.out 2>/dev/null; then
  echo "android test: expected a packed file to be refused without the delegate" >&2
  exit 1
fi
echo "android test: C++ and Java on TensorFlow Lite for Android: the stock interpreter's bytes"
