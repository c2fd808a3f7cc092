"""Networks for the examples and tests, with loaders for published weights."""

from keras_dbq.models.mnasnet import mnasnet
from keras_dbq.models.mobilenet import mobilenet_v1, mobilenet_v2
from keras_dbq.models.pretrained import mobilenet_v1_from_npz, mobilenet_v2_from_tflite, resnet20_from_npz
from keras_dbq.models.resnet import resnet_cifar
from keras_dbq.models.shufflenet import shufflenet_v2
from keras_dbq.models.vgg import alexnet, vgg_small

__all__ = [
    "alexnet",
    "mnasnet",
    "mobilenet_v1",
    "mobilenet_v1_from_npz",
    "mobilenet_v2",
    "mobilenet_v2_from_tflite",
    "resnet20_from_npz",
    "resnet_cifar",
    "shufflenet_v2",
    "vgg_small",
]
