"""The real networks on real pictures: packed = int8 = numpy in every code, sizes, agreement with Keras."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.models import pretrained

pytestmark = pytest.mark.slow


def check(model, calibration, pictures, branches, tmp_path):
    """Exports both encodings and verifies them; returns (int8 report, packed report, verification)."""
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=branches), calibration_data=calibration)
    int8 = keras_dbq.export_tflite(q_model, tmp_path / "int8.tflite", "int8", strict=True)
    packed = keras_dbq.export_tflite(q_model, tmp_path / "packed.tflite", strict=True)
    verification = keras_dbq.verify(
        q_model, tmp_path / "packed.tflite", pictures, int8_file=tmp_path / "int8.tflite", raise_on_failure=False
    )
    assert verification.output_interpreter == 0 and verification.output_int8 == 0, str(verification)
    assert verification.first_difference is None, str(verification)
    assert verification.passed and verification.top1_agreement_by_layer >= 0.995, str(verification)
    assert max(row.keras_largest for row in verification.rows) <= 1, str(verification)
    return int8, packed, verification


@pytest.mark.filterwarnings("ignore:over 95 %")
# Of the int8 file, which is slim as well: 253,984 bytes, where 0.1's had 297,616.
@pytest.mark.parametrize("branches, ratio", [(1, 0.37), (2, 0.54)])
def test_vww(weights_dir, vww_photos, tmp_path, branches, ratio):
    x = vww_photos[0][:200].astype(np.float32) / 255
    model = keras.models.load_model(weights_dir / "vww_96.h5", compile=False)
    _, packed, _ = check(model, x[100:], x[:100], branches, tmp_path)
    assert packed.ratio <= ratio


@pytest.mark.parametrize("branches", [1, 2])
def test_resnet20(weights_dir, cifar10_test_part, tmp_path, branches):
    images = cifar10_test_part[0][:300]
    x = ((images / 255 - pretrained.RESNET20_MEAN) / pretrained.RESNET20_STD).astype(np.float32)
    check(pretrained.resnet20_from_npz(weights_dir / "resnet20_cifar10.npz"), x[100:], x[:100], branches, tmp_path)


@pytest.mark.parametrize("branches", [1, 2])
def test_mobilenet_v2(weights_dir, imagenet_photos, tmp_path, branches):
    x = (imagenet_photos[0] / 127.5 - 1).astype(np.float32)
    model = pretrained.mobilenet_v2_from_tflite(weights_dir / "mobilenetv2_1.0_224_keras_int8weights.tflite")
    check(model, x[:30], x, branches, tmp_path)
