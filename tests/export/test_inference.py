"""The graph that the converter gets: shared layers, average pooling."""

import pytest

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.export.oracle import operators, quantized

L = keras.layers


def test_shared_layer_with_batch_norm_is_refused():
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 1, name="shared")
    x = L.BatchNormalization()(conv(inputs))
    model = keras.Model(inputs, L.BatchNormalization()(conv(x)))
    with pytest.raises(ValueError, match="layer 'shared': expected one call of a layer with batch norm behind it"):
        keras_dbq.export_tflite(quantized(model), None)


def test_shared_layer_exports_once_per_call():
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 1, name="shared", activation="relu")
    q_model = quantized(keras.Model(inputs, conv(conv(inputs))), ternary_first=True, ternary_last=True, branches=1)
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    assert operators(data) == ["CONV_2D", "CONV_2D"]
    assert keras_dbq.verify(q_model, data, nets.pictures(4), top1_threshold=0).passed


def test_average_pooling_rounds_once():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 1, name="conv")(inputs)
    q_model = quantized(keras.Model(inputs, L.AveragePooling2D(2, name="pool")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert report.findings == [] and "AVERAGE_POOL_2D" not in operators(report.data)
    rows = {row.name: row for row in keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0).rows}
    assert rows["pool"].keras_codes == 8 * 8 * 8 * 4 and rows["pool"].keras < 0.01 * rows["pool"].keras_codes


def test_average_pooling_over_a_padded_border_stays_pooling():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 1, name="conv")(inputs)
    q_model = quantized(keras.Model(inputs, L.AveragePooling2D(3, 2, padding="same", name="pool")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert report.findings == ["requantized (int8 to another int8 scale): pool"]
    rows = keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0).rows
    assert max(row.keras_largest for row in rows) <= 2 and rows[-1].keras_codes
