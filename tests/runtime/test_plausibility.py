"""verify: what it says about changed models, clipped inputs, networks that make differences grow, the float model."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.export import VerificationError
from keras_dbq.runtime import plausibility
from keras_dbq.runtime.verification_report import NUDGED
from tests import nets

L = keras.layers


@pytest.fixture(scope="module")
def float_model():
    return nets.mobilenet_v1()


@pytest.fixture(scope="module")
def q_model(float_model):
    return keras_dbq.quantize_model(float_model, keras_dbq.DBQScheme(branches=2), nets.pictures())


@pytest.fixture(scope="module")
def packed(q_model):
    return keras_dbq.export_tflite(q_model, None, strict=True).data


def test_more_training_after_the_export_is_named(float_model, packed):
    q_model = keras_dbq.quantize_model(float_model, keras_dbq.DBQScheme(branches=2), nets.pictures())
    assert keras_dbq.verify(q_model, packed, nets.pictures(8)).passed
    q_model.compile("sgd", "sparse_categorical_crossentropy")
    q_model.fit(3 * nets.pictures(16), np.arange(16) % 4, verbose=0)
    message = (
        r"^verify: Keras quantizes 'image', 'stem', 'dw0' and \d+ more on grids that the file does not have: was the"
    )
    with pytest.raises(VerificationError, match=message):
        keras_dbq.verify(q_model, packed, nets.pictures(8))
    assert keras_dbq.verify(q_model, packed, nets.pictures(8), top1_threshold=0).passed  # nothing is asked of Keras


def test_inputs_outside_of_the_calibrated_range_are_a_warning(q_model, packed):
    with pytest.warns(UserWarning, match="verify: 9. % of input 'image' lie outside of its calibrated range"):
        report = keras_dbq.verify(q_model, packed, 255 * nets.pictures(8))
    assert 0.9 < report.saturated["image"] < 1 and "are clipped" in str(report)
    assert keras_dbq.verify(q_model, packed, nets.pictures(8)).saturated["image"] < 0.01


def test_the_float_model_stands_beside_the_file(float_model, q_model, packed):
    report = keras_dbq.verify(q_model, packed, nets.pictures(40), float_model=float_model)
    wanted, got = float_model.predict(nets.pictures(40)), keras_dbq.Interpreter(packed).predict(nets.pictures(40))
    assert report.float_top1 == np.mean(wanted.argmax(1) == got.argmax(1))
    assert report.float_error == pytest.approx(np.linalg.norm(got - wanted) / np.linalg.norm(wanted - wanted.mean(0)))
    assert f"same class {100 * report.float_top1:.2f} %" in str(report)
    assert keras_dbq.verify(q_model, packed, nets.pictures(4)).float_top1 is None


def test_another_shape_than_the_float_models_fails(q_model, packed):
    inputs = keras.Input(nets.SHAPE)
    wide = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(inputs)))
    with pytest.raises(VerificationError, match=r"output 'head' is \[5\] in the float model and \[4\] in the file"):
        keras_dbq.verify(q_model, packed, nets.pictures(4), float_model=wide)
    two = keras.Model(inputs, [L.GlobalAveragePooling2D()(inputs)] * 2)
    with pytest.raises(VerificationError, match="has 2 outputs, the file 1"):
        keras_dbq.verify(q_model, packed, nets.pictures(4), float_model=two)


def test_a_layer_of_another_shape_fails(q_model, packed, monkeypatch):
    """As a rewrite of an average to a mean would do: the map has one place in the file."""
    engine = plausibility.Engine(packed)
    run = type(engine).run

    def one_place(self, x, all_tensors=False, **more):
        result = run(self, x, all_tensors, **more)
        if all_tensors:
            result[1]["dw0"] = result[1]["dw0"][:, :1, :1]
        return result

    monkeypatch.setattr(plausibility.Engine, "run", one_place)
    report = keras_dbq.verify(q_model, packed, nets.pictures(4), raise_on_failure=False)
    assert not report.passed and "shapes differ: 'dw0' is [8, 8, 8] in Keras and [1, 1, 8] in the file" in str(report)


def test_growth_is_told_in_numbers(packed):
    x = nets.pictures(64)
    engine = plausibility.Engine(packed)
    rng = np.random.default_rng(0)
    moved = plausibility._nudged(x, engine.inputs[0], rng)
    steps = np.rint((moved - x) / engine.inputs[0].scale)
    assert set(np.unique(steps)) == {-1, 0, 1} and abs(np.mean(steps != 0) - NUDGED) < 0.002
    equal = engine.run(x).argmax(1) == engine.run(moved).argmax(1)
    assert plausibility.nudged_equal(engine, [x]) == equal.mean()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_left_on_changes_nothing(policy):
    """The model is built, quantized and verified under a mixed policy; Keras is compared in float32."""
    keras.mixed_precision.set_global_policy(policy)
    try:
        q_model = keras_dbq.quantize_model(nets.mobilenet_v1(), keras_dbq.DBQScheme(), nets.pictures())
        report = keras_dbq.verify(q_model, keras_dbq.export_tflite(q_model, None, strict=True).data, nets.pictures(16))
        assert keras.mixed_precision.global_policy().name == policy
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert report.passed and report.top1_agreement_by_layer == 1
    assert sum(row.keras for row in report.rows) < 0.001 * sum(row.keras_codes for row in report.rows)


def test_float64_is_refused_in_one_line():
    keras.mixed_precision.set_global_policy("float64")
    try:
        model = keras.Sequential([L.Dense(3, input_shape=(4,), name="wide")])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    with pytest.raises(
        ValueError, match=r"^quantize_model: expected layers in float32 .*, got float64 in 'wide'; build"
    ):
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), np.zeros((4, 4)))
