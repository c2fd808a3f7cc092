"""`.tflite` files without TensorFlow: read, packed, unpacked, slimmed, accounted for."""
