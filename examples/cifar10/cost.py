"""Cost of training: one step of ResNet-20 (batch 128) in float, with DBQ, and with tfmot's own 8-bit scheme.

Run from the repository root: python -m examples.cifar10.cost

The steps alternate in one process, so that a change of the machine's speed meets all of them; the ratio is the median
of the ratios to the float step of the same round. The pictures are random numbers: they do not change the cost.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import time
from typing import Any

import numpy as np
from absl import app, flags

import keras_dbq
from keras_dbq import models
from keras_dbq.benchmark import cpu_name
from keras_dbq.compat import keras, tf, tfmot

_ROUNDS = flags.DEFINE_integer("rounds", 20, "Measured steps of each kind.", lower_bound=3)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of TensorFlow.", lower_bound=1)
BATCH = 128


def networks(pictures: np.ndarray) -> dict[str, Any]:
    """The float network and its quantized forms, by what the table calls them."""
    network = models.resnet_cifar(20)
    forms: dict[str, Any] = {"float": network}
    for branches in (1, 2):
        for forward in keras_dbq.branch_ops.FORWARD_MODES:
            scheme = keras_dbq.DBQScheme(branches, forward=forward)
            forms[f"DBQ, {branches} branch{'es' * (branches > 1)}, {forward}"] = keras_dbq.quantize_model(
                network, scheme, pictures
            )
    scheme = keras_dbq.DBQScheme(2, thresholds="trained")
    forms["DBQ, 2 branches, hard, trained thresholds"] = keras_dbq.quantize_model(network, scheme, pictures)
    forms["tfmot 8 bit"] = tfmot.quantization.keras.quantize_model(network)
    return forms


def steps(forms: dict[str, Any], pictures: np.ndarray) -> dict[str, Any]:
    """A compiled training step of each network."""
    labels = np.arange(BATCH) % 10
    batches = iter(tf.data.Dataset.from_tensors((pictures, labels)).repeat())
    result = {}
    for name, model in forms.items():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
        step = model.make_train_function()
        result[name] = lambda step=step: step(batches)
    return result


def main(_: list[str]) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    pictures = np.random.default_rng(0).normal(size=(BATCH, 32, 32, 3)).astype(np.float32)
    functions = steps(networks(pictures), pictures)
    for function in functions.values():
        for _ in range(3):  # tracing and warm-up
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    bar = keras.utils.Progbar(_ROUNDS.value)
    for round_number in range(_ROUNDS.value):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
        bar.update(round_number + 1)
    reference = np.array(seconds["float"])
    print(f"{cpu_name()}, {_THREADS.value} threads, TensorFlow {tf.__version__}, batch {BATCH}, {_ROUNDS.value} rounds")
    print(f"{'one training step of ResNet-20':45s} {'ms':>8s} {'ratio':>6s}")
    for name, values in seconds.items():
        ratio = np.median(np.array(values) / reference)
        print(f"{name:45s} {1e3 * np.median(values):8.1f} {ratio:6.2f}")


if __name__ == "__main__":
    app.run(main)
