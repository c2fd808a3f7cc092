"""Times our int8 file beside the stock converter's own of the same network: `python -m tools.int8_speed [name ...]`.

Both run in the stock interpreter, one thread, one picture, without any delegate of ours. They run in turns, and the
figure is the median of the ratios of neighbours, so that what else the machine does hits both. The networks have random
weights and lively batch norms: time does not depend on the numbers.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import keras_dbq
from keras_dbq import models
from keras_dbq._table import Table
from keras_dbq.benchmark import cpu_name
from keras_dbq.compat import keras, tf
from tests import nets

ROUNDS = 301
WARM_UP = 20

NETWORKS: dict[str, Callable[[], Any]] = {
    "MobileNetV1 0.25, 96 x 96, Rescaling in front": lambda: _rescaled(
        models.mobilenet_v1((96, 96, 3), classes=2, alpha=0.25)
    ),
    "MobileNetV2 0.35, 96 x 96": lambda: keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=10),
    "ResNet-20, 32 x 32": lambda: models.resnet_cifar(20),
    "EfficientNetB0, 64 x 64": lambda: keras.applications.EfficientNetB0(
        input_shape=(64, 64, 3), weights=None, classes=10
    ),
}


def _rescaled(model: Any) -> Any:
    """The network for pictures in 0..255."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)))


def main(parts: list[str]) -> None:
    warnings.simplefilter("ignore")
    table = Table(["network", "stock us", "ours us", "ours / stock", "stock bytes", "our bytes"])
    for name, build in NETWORKS.items():
        if parts and not any(part in name for part in parts):
            continue
        stock, ours = files(nets.randomize(build()))
        times = timed(stock, ours)
        ratio = statistics.median(b / a for a, b in times)
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        table.add(name, f"{medians[0]:.1f}", f"{medians[1]:.1f}", f"{ratio:.3f}", len(stock), len(ours))
    print(f"{cpu_name()}, 1 thread, {ROUNDS} runs in turns")
    print(table)


def files(model: Any) -> tuple[bytes, bytes]:
    """(the stock converter's int8 file, ours) of a float network, of the same pictures."""
    x = np.random.default_rng(0).uniform(0, 1, (8, *model.input_shape[1:])).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), x)
    return _stock(model, x), keras_dbq.export_tflite(q_model, None, "int8", strict=True).data


def _stock(model: Any, x: np.ndarray) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def pictures() -> Iterator[list[np.ndarray]]:
        return ([picture[None]] for picture in x)

    converter.representative_dataset = pictures
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def timed(stock: bytes, ours: bytes) -> list[tuple[float, float]]:
    """Microseconds of one run of (stock, ours), in turns; which of the two is first changes from round to round."""
    runs: list[Callable[[], None]] = [_run(stock), _run(ours)]
    for _ in range(WARM_UP):
        for run in runs:
            run()
    times = []
    for number in range(ROUNDS):
        pair = [0.0, 0.0]
        for index in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter_ns()
            runs[index]()
            pair[index] = (time.perf_counter_ns() - started) / 1000
        times.append((pair[0], pair[1]))
    return times


def _run(data: bytes) -> Callable[[], None]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    codes = np.random.default_rng(1).integers(-128, 128, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], codes)
    return interpreter.invoke


if __name__ == "__main__":
    main(sys.argv[1:])
