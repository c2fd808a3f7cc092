"""What a float Keras graph and its layers are; nothing here knows about quantizers."""
