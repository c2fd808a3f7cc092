"""Whether a `.tflite` file is whole: it refuses in one line what is not, and computes nothing."""

from keras_dbq.structure.check import check_file as check_file
