"""The graph that the converter gets: shared layers, average pooling."""

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.export.oracle import operators, quantized

L = keras.layers


def test_batch_norms_behind_a_shared_layer_are_operators_of_their_own():
    """They cannot fold: the layer has one kernel, and each call another batch norm."""
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 1, name="shared")
    x = L.BatchNormalization(name="first")(conv(inputs))
    model = keras.Model(inputs, L.BatchNormalization(name="second")(conv(x)))
    q_model = quantized(nets.randomize(model))
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    assert operators(data) == ["CONV_2D", "DEPTHWISE_CONV_2D"] * 2
    report = keras_dbq.verify(q_model, data, nets.pictures(8), top1_threshold=0)
    assert [row.name for row in report.rows[1:]] == ["shared", "first", "shared#2", "second"]
    assert all(row.keras_codes == row.codes and row.keras_largest <= 1 for row in report.rows)


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
