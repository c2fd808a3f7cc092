"""What an installed keras_dbq must do: quantize, train, export, run packed and int8, verify. Any failure raises."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tf_keras as keras

import keras_dbq

keras.utils.set_random_seed(0)
inputs = keras.Input((16, 16, 3))
x = inputs
for stride in (1, 2, 1):
    x = keras.layers.Conv2D(8, 3, stride, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))

rng = np.random.default_rng(0)
images, labels = rng.normal(size=(64, 16, 16, 3)).astype(np.float32), rng.integers(0, 4, 64)
q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=2), calibration_data=images)
q_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
q_model.fit(images, labels, epochs=1, verbose=0)

outputs = {}
for encoding in ("int8", "packed"):
    keras_dbq.export_tflite(q_model, f"{encoding}.tflite", encoding=encoding, strict=True)
    outputs[encoding] = keras_dbq.Interpreter(f"{encoding}.tflite").predict(images)
outputs["numpy"] = keras_dbq.reference.Engine("packed.tflite", rounding="xnnpack").run(images)
for name in ("packed", "numpy"):
    if not np.array_equal(outputs[name], outputs["int8"]):
        raise SystemExit(f"smoke test: expected the outputs of the int8 file, got others from {name}")

# Instruction sets that Linux names are found by the delegate, too: without them everything is right and slow.
flags = next((line.split() for line in open("/proc/cpuinfo") if line.startswith("flags")), [])
for flag, isa in (("avx2", "avx2"), ("avx_vnni", "avxvnni"), ("avx512_vnni", "avx512vnni"), ("amx_int8", "amx")):
    if flag in flags:
        keras_dbq.Interpreter("packed.tflite", isa=isa)
print(f"smoke test: keras_dbq {keras_dbq.__version__} from {os.path.dirname(keras_dbq.__file__)}: passed")
