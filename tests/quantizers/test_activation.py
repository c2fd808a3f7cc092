"""The activation quantizer: its ranges move in training only."""

from keras_dbq.wrapping import wrappers
from tests import nets


def test_ema_moves_ranges_in_training_only():
    q_model = nets.quantize(nets.resnet(), ema_decay=0.5)
    tensor = wrappers.quantized_output(q_model.get_layer("quant_stem_relu"))
    high = tensor.variables["high"].numpy()
    q_model(nets.pictures() * 3, training=False)
    assert tensor.variables["high"].numpy() == high
    q_model(nets.pictures() * 3, training=True)
    assert tensor.variables["high"].numpy() != high
