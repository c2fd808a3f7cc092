"""Networks for the examples and tests: MobileNetV1, MobileNetV2 and ResNets, with loaders for published weights."""

from keras_dbq.models.mobilenet import mobilenet_v1, mobilenet_v2
from keras_dbq.models.pretrained import mobilenet_v1_from_npz, mobilenet_v2_from_tflite, resnet20_from_npz
from keras_dbq.models.resnet import resnet_cifar

__all__ = [
    "mobilenet_v1",
    "mobilenet_v1_from_npz",
    "mobilenet_v2",
    "mobilenet_v2_from_tflite",
    "resnet20_from_npz",
    "resnet_cifar",
]
