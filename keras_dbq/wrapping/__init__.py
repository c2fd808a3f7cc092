"""A quantizer on a Keras layer: found, frozen, saved, its bias rounded."""
