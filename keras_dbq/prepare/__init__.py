"""Float network to float network: what makes it ready to be quantized."""
