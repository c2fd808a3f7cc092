"""Trains small quantized networks under one strategy and stores the weights; started by test_distributed.py.

    python distributed_worker.py OUT.npz alone | mirrored | worker

"mirrored": two logical CPUs. "worker": one of the processes that TF_CONFIG names. Networks without batch norm, whose
statistics differ per replica; the same global batches everywhere.
"""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf

L = keras.layers
BATCH = 12


def network():
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(6, 3, activation="relu", name="stem")(inputs)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    x = L.Conv2D(8, 1, name="pointwise")(x)
    x = L.GlobalAveragePooling2D()(L.ReLU()(x))
    return keras.Model(inputs, L.Dense(4, name="head")(x), name="net")


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5 * BATCH, 8, 8, 3)).astype(np.float32), rng.integers(0, 4, 5 * BATCH)


def quantized(scheme):
    keras.utils.set_random_seed(1)
    model = network()
    return keras_dbq.quantize_model(model, scheme, calibration_data=data()[0]), model


def batches():
    return tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)


def fit(scheme):
    """Plain `fit`; returns the weights."""
    q_model, _ = quantized(scheme)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    q_model.compile(keras.optimizers.SGD(0.05, 0.9), loss, steps_per_execution=2)
    q_model.fit(batches(), epochs=2, verbose=0)
    return q_model.get_weights()


def distilled(scheme, optimizer=None, **options):
    """A Distiller's weights."""
    q_model, model = quantized(scheme)
    distiller = keras_dbq.Distiller(q_model, model, **options)
    distiller.compile(optimizer or keras.optimizers.SGD(0.05, 0.9), metrics=["accuracy"])
    history = distiller.fit(batches(), epochs=2, verbose=0).history
    return [*q_model.get_weights(), np.array(history["loss"]), np.array(history["accuracy"])]


def cases():
    """{name: weights after training}."""
    dbq, fat = keras_dbq.DBQScheme(forward="smooth"), keras_dbq.FATScheme(bits=4)
    everything = {"label_weight": 0.3, "hidden_weight": 0.5, "fixed_statistics": False}
    return {
        "fit_dbq": lambda: fit(dbq),
        "fit_fat": lambda: fit(fat),
        "distill_dbq": lambda: distilled(dbq, train="all", loss="kl", temperature=2.0, **everything),
        "distill_fat": lambda: distilled(fat, keras.optimizers.SGD(1.0), loss="rmse"),
        "pointwise_fat": lambda: distilled(fat, keras.optimizers.SGD(0.5), train="pointwise", loss="smooth_l1"),
    }


def strategy(kind):
    if kind == "alone":
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return tf.distribute.MultiWorkerMirroredStrategy()


def main(out, kind):
    results = {}
    with strategy(kind).scope():
        for name, run in cases().items():
            results |= {f"{name}_{i:02}": value for i, value in enumerate(run())}
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
