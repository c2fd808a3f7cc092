"""Stateless mathematics with gradients: TensorFlow functions without variables."""
