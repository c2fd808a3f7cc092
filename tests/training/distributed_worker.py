"""Trains small quantized networks under one strategy and stores the weights; started by test_distributed.py.

    python distributed_worker.py OUT.npz alone | mirrored | worker

"mirrored": two logical CPUs. "worker": one of the processes that TF_CONFIG names. Networks without batch norm, whose
statistics differ per replica; the same global batches everywhere.
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf
from tests.training import small

BATCH = 12


def batches():
    return tf.data.Dataset.from_tensor_slices(small.data(5 * BATCH)).batch(BATCH)


def fit(scheme):
    """Plain `fit`; returns the weights."""
    q_model, _ = small.pair(scheme)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    q_model.compile(keras.optimizers.SGD(0.05, 0.9), loss, steps_per_execution=2)
    q_model.fit(batches(), epochs=2, verbose=0)
    return q_model.get_weights()


def distilled(scheme, rate, **options):
    """A Distiller's weights."""
    q_model, model = small.pair(scheme)
    distiller = keras_dbq.Distiller(q_model, model, **options)
    distiller.compile(keras.optimizers.SGD(rate, 0.9), metrics=["accuracy"])
    history = distiller.fit(batches(), epochs=2, verbose=0).history
    return [*q_model.get_weights(), np.array(history["loss"]), np.array(history["accuracy"])]


def cases():
    """{name: (scheme, scheme -> weights after training)}."""
    dbq, fat = keras_dbq.DBQScheme(forward="smooth"), keras_dbq.FATScheme(bits=4)
    everything = {"label_weight": 0.3, "hidden_weight": 0.5, "fixed_statistics": False}
    return {
        "fit_dbq": (dbq, fit),
        "fit_fat": (fat, fit),
        "distill_dbq": (dbq, lambda s: distilled(s, 0.05, train="all", loss="kl", temperature=2.0, **everything)),
        "distill_fat": (fat, lambda s: distilled(s, 1.0, loss="rmse")),
        "pointwise_fat": (fat, lambda s: distilled(s, 0.5, train="pointwise", loss="smooth_l1")),
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
        for name, (scheme, run) in cases().items():
            start, values = small.pair(scheme)[0].get_weights(), run(scheme)
            assert any(not np.array_equal(a, b) for a, b in zip(start, values, strict=False)), f"{name}: nothing moved"
            results |= {f"{name}_{i:02}": value for i, value in enumerate(values)}
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
