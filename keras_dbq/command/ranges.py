"""The usual ways in which networks take pictures of 0..255."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# source: keras.applications' preprocess_input, modes "tf", "torch" and "caffe" (mean of ImageNet's training pictures).
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)

Scaling = Callable[[np.ndarray], np.ndarray]
RANGES: dict[str, Scaling] = {
    "0..255": lambda x: x,
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
    "torch": lambda x: (x / 255 - _TORCH_MEAN) / _TORCH_DEVIATION,
    "caffe": lambda x: x[..., ::-1] - _CAFFE_MEAN,  # blue first
}
COLOUR = ("torch", "caffe")


def scaled(pictures: np.ndarray, name: str) -> np.ndarray:
    """Pictures of 0..255 as a network of that range takes them.

    Args:
      pictures: uint8 [N, H, W, C].
      name: "0..255", "0..1", "-1..1", "torch" (0..1, ImageNet's mean 0 and deviation 1) or "caffe" (0..255, blue first,
        ImageNet's mean 0).

    Returns:
      float32 [N, H, W, C].

    Raises:
      ValueError: another name, or "torch" or "caffe" of grey pictures.
    """
    if name not in RANGES:
        raise ValueError(f"range: expected one of {', '.join(RANGES)}, got {name!r}")
    if name in COLOUR and pictures.shape[-1] != 3:
        raise ValueError(f"range: expected pictures of 3 channels for {name!r}, got {pictures.shape[-1]}")
    return RANGES[name](pictures.astype(np.float32)).astype(np.float32)
