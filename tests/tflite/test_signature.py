"""Inputs and outputs: Keras' order and Keras' names in the file, the interpreter, the engine and verify."""

import functools

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reference import Engine
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import signature
from tests import nets

L = keras.layers


def reversed_inputs():
    """The converter lists b before a, Keras a before b, and both have one shape."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    return keras.Model([b, a], L.Subtract(name="diff")([L.Dense(4, name="left")(a), L.Dense(4, name="right")(b)]))


def several_outputs():
    """One output twice, one that another output is computed from, and names that a rewrite changes."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    first, second = L.Dense(4, name="first")(a), L.Dense(4, activation="softmax", name="second")(b)
    total = L.Add(name="total")([first, second])
    return keras.Model([b, a], [total, first, second, first])


def dicts():
    """Keys that are no layers' names, and sorted the other way round."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    outputs = {"z": L.Dense(4, name="first")(a), "y": L.Dense(4, activation="tanh", name="second")(b)}
    return keras.Model({"k2": b, "k1": a}, outputs)


def nested():
    """An output that is a nested model's, and one that is a batch norm on its own."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    head = keras.Sequential([L.Dense(4, activation="softmax")], name="head")
    return keras.Model([a, b], [head(L.Dense(4)(a)), L.BatchNormalization(name="norm")(L.Subtract()([a, b]))])


def one_of_each():
    """One input and one output of a function on tensors."""
    a = keras.Input((6,), name="a")
    return keras.Model(a, L.Dense(4)(a) * 2.0)


NETWORKS = [reversed_inputs, several_outputs, dicts, nested, one_of_each]


def float_names(model):
    """(inputs, outputs) as Keras calls them."""
    of = [(model.input, model.input_names), (model.output, model.output_names)]
    return [sorted(structure) if isinstance(structure, dict) else names for structure, names in of]


def flat(value):
    """The arrays of what a run gives; a dict in the order that TensorFlow gives it, sorted by key."""
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return value if isinstance(value, list) else [value]


@functools.cache
def exported(build):
    """(float model, quantized model, file, inputs in Keras' order)."""
    keras.backend.clear_session()
    model = nets.randomize(build())
    rng = np.random.default_rng(4)
    x = [rng.normal(i, 1, (32, 6)).astype(np.float32) for i in range(len(model.inputs))]
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), x[0] if len(x) == 1 else [tuple(x)])
    return model, q_model, keras_dbq.export_tflite(q_model, None, strict=True).data, x


@pytest.mark.parametrize("build", NETWORKS)
def test_the_order_is_keras(build):
    _, q_model, data, x = exported(build)
    wanted = flat(q_model(x if len(x) > 1 else x[0], training=False))
    for path in (keras_dbq.Interpreter(data).predict, Engine(data).run):
        for want, got in zip(wanted, flat(path(x)), strict=True):
            assert np.abs(want - got).max() < 0.05 * np.abs(want).max()
    assert keras_dbq.verify(q_model, data, x).passed


@pytest.mark.parametrize("build", NETWORKS)
def test_the_names_are_keras(build):
    model, _, data, _ = exported(build)
    inputs, outputs = float_names(model)
    for run in (keras_dbq.Interpreter(data), Engine(data)):
        assert run.input_names == inputs and run.output_names == outputs


@pytest.mark.parametrize("build", NETWORKS)
def test_a_dict_by_name_is_the_list(build):
    model, q_model, data, x = exported(build)
    names, _ = float_names(model)
    by_name = dict(reversed(list(zip(names, x, strict=True))))
    for path in (keras_dbq.Interpreter(data).predict, Engine(data).run):
        for want, got in zip(flat(path(x)), flat(path(by_name)), strict=True):
            np.testing.assert_array_equal(want, got)
    assert keras_dbq.verify(q_model, data, by_name).passed


@pytest.mark.parametrize("build", NETWORKS)
def test_a_stock_runner_finds_inputs_and_outputs_by_name(build):
    _, _, data, x = exported(build)
    from ai_edge_litert.interpreter import Interpreter

    twin = Interpreter(model_content=keras_dbq.tflite.unpack.unpack_tflite(data))
    runner = twin.get_signature_runner("serving_default")
    ours = keras_dbq.Interpreter(data)
    details = runner.get_input_details()
    codes = {
        name: np.clip(np.rint(a[:1] / details[name]["quantization"][0]) + details[name]["quantization"][1], -128, 127)
        for name, a in zip(ours.input_names, x, strict=True)
    }
    codes = {name: value.astype(np.int8) for name, value in codes.items()}
    outputs = runner(**codes)
    assert set(outputs) == set(ours.output_names)
    for name, got in zip(ours.output_names, flat(ours.predict(codes)), strict=True):
        np.testing.assert_array_equal(outputs[name], got)


def test_a_model_that_gives_a_dict_gives_one_here():
    model, q_model, data, x = exported(dicts)
    wanted = q_model(x, training=False)
    for path in (keras_dbq.Interpreter(data).predict, Engine(data).run):
        got = path(x)
        assert set(got) == set(model.output) == {"y", "z"}
        assert all(np.abs(got[name] - wanted[name]).max() < 0.05 for name in got)


def test_names_survive_saving(tmp_path):
    model, q_model, data, _ = exported(nested)
    q_model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert keras_dbq.export_tflite(loaded, None).data == data
    assert keras_dbq.Interpreter(data).output_names == model.output_names == ["head", "norm"]


@pytest.mark.parametrize("names", [("a", "c"), ("a",), ("a", "b", "c")])
def test_other_names_are_refused(names):
    _, q_model, data, x = exported(reversed_inputs)
    given = dict.fromkeys(names, x[0])
    for run in (keras_dbq.Interpreter(data).predict, Engine(data).run, lambda x: keras_dbq.verify(q_model, data, x)):
        with pytest.raises(ValueError, match=r"^x: expected a dict with the inputs b, a, got a"):
            run(given)


@pytest.mark.parametrize("build", NETWORKS)
def test_a_file_without_signature_has_the_names_of_its_tensors(build):
    model, _, data, _ = exported(build)
    parsed = fb.load_model(data)
    parsed.signatureDefs = None
    graph = parsed.subgraphs[0]
    names = [[fb.text(graph.tensors[int(i)].name) for i in ends] for ends in (graph.inputs, graph.outputs)]
    stripped = fb.save_model(parsed)
    ends = signature.read(fb.load_model(stripped))
    assert [ends.inputs, ends.outputs] == names
    assert signature.read_content(stripped) == ends
    assert signature.read_content(data) == signature.read(fb.load_model(data))
    assert Engine(stripped).input_names == names[0] and Engine(stripped).output_names == names[1]
