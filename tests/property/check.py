"""What has to hold for any network: refused at once in one line, or exported without float and equal in every byte."""

import re
import warnings
from typing import Any

import numpy as np

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reference import Engine
from keras_dbq.wrapping import wrappers

PICTURES = 24  # under 64: quantize_model leaves batch norm and biases as they are


def pictures(model: Any, count: int = PICTURES, seed: int = 5) -> list[np.ndarray]:
    """Normally distributed inputs, one array per input of the model; bytes where it is one of integers."""
    rng = np.random.default_rng(seed)
    shapes = [(count, *t.shape[1:]) for t in model.inputs]
    drawn = [
        rng.integers(0, 256, s) if t.dtype.is_integer else rng.normal(0, 1.5, s)
        for s, t in zip(shapes, model.inputs, strict=True)
    ]
    return [values.astype(np.float32) for values in drawn]


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def calibration_data(x: list[np.ndarray]) -> Any:
    """As quantize_model takes it: an array, or batches of several inputs."""
    return x[0] if len(x) == 1 else [tuple(x)]


def quantized(model: Any, scheme: Any) -> Any:
    """The quantized model, or None where it is refused as it should be: in one line, with what `check` lists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obstacles = keras_dbq.check(model, scheme)
        try:
            q_model = keras_dbq.quantize_model(model, scheme, calibration_data(pictures(model)))
        except ValueError as error:
            text = str(error)
            assert "\n" not in text and re.search("[:;] ", text), (
                f"expected a refusal in one line that says what to do, got {text}"
            )
            assert text == obstacles.sentence(), f"expected what check lists, {obstacles.sentence()}, got {text}"
            return None
    assert not obstacles, f"expected a refusal, because of {obstacles.sentence()}"
    return q_model


def float_function_is_kept(model: Any, q_model: Any) -> None:
    """The rewrites compute what the float network computes: with all quantizers off the outputs are the same."""
    x = [a[:6] for a in pictures(model)]
    with wrappers.quantizer_flags(q_model, weights_bypass=True, activations_bypass=True):
        got = as_list(q_model(x if len(x) > 1 else x[0], training=False))
    want = as_list(model(x if len(x) > 1 else x[0], training=False))
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape, f"outputs: expected shape {w.shape}, got {g.shape}"
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4 * np.abs(w).max() + 1e-6, err_msg="quantizers off")


def even_ranges_keep_the_function(model: Any) -> None:
    """The outputs on the pictures that were looked at stay, but for the shifted copies of channels."""
    x = pictures(model)
    given = x if len(x) > 1 else x[0]
    even = keras_dbq.even_ranges(model, calibration_data(x)).model
    for g, w in zip(as_list(even(given, training=False)), as_list(model(given, training=False)), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=0.02 * np.abs(w).max() + 1e-6, err_msg="even_ranges")


def integers_are_equal(packed: bytes, int8: bytes, seed: int = 6) -> None:
    """Random codes through four paths; every output byte is the same, and they are not all one number."""
    stock = keras_dbq.Interpreter(int8, delegate=False)
    rng = np.random.default_rng(seed)
    codes = [rng.integers(-128, 128, (9, *d["shape"][1:])).astype(np.int8) for d in stock.input_details]
    given = codes if len(codes) > 1 else codes[0]
    paths = {
        "int8 file in the stock interpreter": stock.predict(given, batch_size=4),
        "packed file in the interpreter": keras_dbq.Interpreter(packed).predict(given, batch_size=4),
        "packed file in the numpy engine": Engine(packed).run(given),
        "int8 file in the numpy engine": Engine(int8).run(given),
    }
    first, *others = paths
    for other in others:
        for i, (a, b) in enumerate(zip(as_list(paths[first]), as_list(paths[other]), strict=True)):
            assert a.dtype == b.dtype == np.int8, f"output {i} of the {other}: expected int8, got {b.dtype}"
            different = np.count_nonzero(a != b)
            assert not different, f"output {i}: {first} and {other} differ in {different} of {a.size} bytes"


def file_computes_what_keras_does(q_model: Any, packed: bytes) -> None:
    """Layer by layer as `verify` compares; and end to end the outputs stand in the same order with the same meaning."""
    x = pictures(q_model, 16, seed=7)
    given = x if len(x) > 1 else x[0]
    report = keras_dbq.verify(q_model, packed, given, raise_on_failure=False)
    assert report.first_difference is None and not report.output_interpreter and not report.output_int8, str(report)
    assert all(row.keras_agrees for row in report.rows), str(report)
    wanted = as_list(q_model.predict(given, verbose=0))
    for i, (w, g) in enumerate(zip(wanted, as_list(keras_dbq.Interpreter(packed).predict(given)), strict=True)):
        assert w.shape == g.shape, f"output {i}: expected shape {w.shape}, got {g.shape}"
        error, spread = np.abs(w - g).mean(), np.abs(w).max()
        assert error <= 0.05 * spread + 1e-6, f"output {i}: Keras and the file differ by {error:.4g} of {spread:.4g}"


def holds(model: Any, scheme: Any) -> str:
    """The whole property; returns "refused" or "exported"."""
    q_model = quantized(model, scheme)
    if q_model is None:
        return "refused"
    float_function_is_kept(model, q_model)
    packed, int8 = exported(q_model)
    integers_are_equal(packed, int8)
    file_computes_what_keras_does(q_model, packed)
    return "exported"


def exported(q_model: Any) -> tuple[bytes, bytes]:
    """(packed, int8): the two files of a model, with no operator in float."""
    packed, int8 = (keras_dbq.export_tflite(q_model, None, kind, strict=True).data for kind in ("packed", "int8"))
    return packed, int8


def loads_as_it_was_saved(q_model: Any, files: tuple[bytes, bytes], path: Any) -> None:
    """The model, saved to `path` and loaded, gives the same files."""
    q_model.save(path)
    again = exported(keras.models.load_model(path, safe_mode=False))
    assert again == files, "expected the same files after saving and loading"
