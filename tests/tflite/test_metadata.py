"""Our metadata entry: facts are added, those of others stay."""

import json

import pytest

from keras_dbq.export import pack_tflite
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata
from tests.tflite.cases import CASES
from tests.tflite_ops import packed_models


def entry(model):
    return fb.get_metadata(model, "keras_dbq")


def test_a_packed_int8_export_says_so():
    model = fb.load_model(packed_models.int8_model(CASES["conv"]))
    metadata.describe(model, encoding="int8")
    packed = fb.load_model(pack_tflite(fb.save_model(model)).data)
    assert metadata.read(packed)["encoding"] == "packed" and metadata.read(packed)["packing"] == "base3"
    # A file of another writer gets no word for it.
    assert "encoding" not in metadata.read(fb.load_model(pack_tflite(packed_models.int8_model(CASES["conv"])).data))


def test_facts_are_added_and_forgotten():
    model = fb.load_model(packed_models.int8_model(CASES["conv"]))
    fb.set_metadata(model, "keras_dbq", b'{"writer":"another","format_version":0}')
    fb.set_metadata(model, "min_runtime_version", b"1.14.0")
    metadata.describe(model, encoding="packed")
    metadata.describe(model, packing="base3")
    assert json.loads(entry(model)) == {
        "encoding": "packed",
        "format_version": 1,
        "packing": "base3",
        "rounding": "xnnpack",
        "writer": "another",
    }
    metadata.forget(model)
    assert entry(model) is None and fb.get_metadata(model, "min_runtime_version") == b"1.14.0"


@pytest.mark.parametrize("stored", [b"{", b"[1]", b"\xff", b"3"])
def test_an_entry_that_is_no_object_is_refused(stored):
    model = fb.load_model(packed_models.int8_model(CASES["conv"]))
    fb.set_metadata(model, "keras_dbq", stored)
    with pytest.raises(ValueError, match="metadata 'keras_dbq': expected a JSON object, got"):
        metadata.read(model)
