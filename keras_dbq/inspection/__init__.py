"""Looking into quantized models, never changing them: weights, and tables of what was done to which layer."""

from keras_dbq.inspection.inspection import *  # noqa: F403
