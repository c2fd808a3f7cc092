"""A new quantizer is one class with a decorator: it trains, saves, loads and exports without a list to extend."""

import importlib.util
import json
import sys

import numpy as np
import pytest

import keras_dbq
from keras_dbq import quantizers
from keras_dbq.compat import keras, tfmot
from keras_dbq.quantizers import registry
from keras_dbq.wrapping import lookup, serialization
from keras_dbq.wrapping.quantize_configs import LayerQuantizeConfig
from tests.wrapping import tiny

# A file as a user would write it, outside of the package.
SOURCE = '''
import numpy as np
from keras_dbq.compat import tf
from keras_dbq.quantizers import IntegerWeights, WeightQuantizer, add_variable, announce

@announce
class SignQuantizer(WeightQuantizer):
    """w -> sign(w) * scale, with one trained scale a channel."""
    parts = ("scales",)

    def __init__(self, start=0.5, frozen=()):
        self.start, self.frozen = start, self._frozen(frozen)

    def build(self, tensor_shape, name, layer):
        start = np.full(self.channels(tensor_shape), self.start)
        return {"scale": add_variable(layer, f"{name}_scale", start, trainable=True)}

    def quantize(self, columns, training, variables):
        signs = columns + tf.stop_gradient(tf.sign(columns) - columns)
        return signs * tf.convert_to_tensor(variables["scale"])
INTEGER
@announce
class ClipQuantizer(WeightQuantizer):
    """No integer form."""

    def build(self, tensor_shape, name, layer):
        return {}

    def quantize(self, columns, training, variables):
        return tf.clip_by_value(columns, -0.1, 0.1)
'''
INTEGER = """
    def integer_weights(self, kernel, variables):
        scale = variables["scale"].numpy()
        return IntegerWeights((127 * np.sign(kernel)).astype(np.int8), scale / np.float32(127), 0, 8)

"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The file, imported; what it announced is forgotten afterwards."""
    path = tmp_path / "my_quantizers.py"
    path.write_text(SOURCE.replace("INTEGER", INTEGER))
    spec = importlib.util.spec_from_file_location("my_quantizers", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_quantizers", module)
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    spec.loader.exec_module(module)
    yield module
    for name in ("SignQuantizer", "ClipQuantizer"):
        keras.utils.get_custom_objects().pop(f"keras_dbq>{name}", None)


def quantized(quantizer):
    """The tiny network with that quantizer on the dense layer, by tfmot's own way."""
    annotate = tfmot.quantization.keras.quantize_annotate_layer

    def clone(layer):
        if layer.name == "head":
            return annotate(layer, LayerQuantizeConfig({"kernel": quantizer}))
        return layer if isinstance(layer, keras.layers.InputLayer) else annotate(layer)

    keras.utils.set_random_seed(0)
    with keras_dbq.quantize_scope():
        annotated = keras.models.clone_model(tiny.network(), clone_function=clone)
        q_model = tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.DBQScheme())
    keras_dbq.initialize(q_model, tiny.pictures())
    return q_model


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_a_new_quantizer_trains_saves_loads_freezes_and_exports(module, file, tmp_path):
    q_model = quantized(module.SignQuantizer(start=0.25))
    weight = lookup.quantized_weights(q_model.get_layer("quant_head"))[0]
    assert type(weight.quantizer) is module.SignQuantizer
    tiny.fit(q_model)
    scale = weight.variables["scale"].numpy()
    assert (scale != 0.25).all()
    q_model.save(tmp_path / file)
    loaded = keras.models.load_model(tmp_path / file)
    x = tiny.pictures(4, seed=3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), q_model.predict(x, verbose=0))
    weight = lookup.quantized_weights(loaded.get_layer("quant_head"))[0]
    assert type(weight.quantizer) is module.SignQuantizer and weight.quantizer.start == 0.25
    keras_dbq.freeze(loaded, scales=True)
    tiny.fit(loaded)
    np.testing.assert_array_equal(weight.variables["scale"].numpy(), scale)
    report = keras_dbq.export_tflite(loaded, None, "int8", strict=True)
    assert keras_dbq.verify(loaded, report.data, x).passed


def test_without_an_integer_form_export_says_so(module):
    q_model = quantized(module.ClipQuantizer())
    with pytest.raises(ValueError, match="ClipQuantizer: expected a quantizer with an integer form, got one without"):
        keras_dbq.export_tflite(q_model, None, "int8")


def test_everybody_finds_it(module):
    assert serialization.custom_objects()["SignQuantizer"] is module.SignQuantizer
    assert quantizers.announced()["SignQuantizer"] is module.SignQuantizer
    config = json.loads(json.dumps(quantizers.serialize(module.SignQuantizer(0.75))))
    assert config == {"class_name": "SignQuantizer", "config": {"start": 0.75, "frozen": []}}
    assert quantizers.deserialize(config).start == 0.75
    assert quantizers.deserialize(None) is quantizers.serialize(None) is None


def test_names_are_taken_once(module):
    with pytest.raises(ValueError, match="got 'SignQuantizer', which my_quantizers has"):
        registry.announce(type("SignQuantizer", (module.SignQuantizer,), {"__module__": "elsewhere"}))
    assert registry.announce(module.SignQuantizer) is module.SignQuantizer


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="quantizer: expected one of ActivationQuantizer, .*, got 'mine>NoQuantizer'"):
        quantizers.deserialize({"class_name": "mine>NoQuantizer", "config": {}})


def test_a_new_file_in_the_package_is_enough():
    """Every quantizer of the package is announced, and found under its name."""
    assert set(quantizers.announced()) >= {"ActivationQuantizer", "LinearWeightQuantizer", "TernaryBranchQuantizer"}
    for name, cls in quantizers.announced().items():
        assert getattr(quantizers, name) is cls
