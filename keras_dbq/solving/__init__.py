"""Step 2 of TSQ: ternary weights from a float network and unlabelled pictures, layer by layer, without training."""

from keras_dbq.solving.two_step import Solved, solve_ternary, take_over

__all__ = ["Solved", "solve_ternary", "take_over"]
