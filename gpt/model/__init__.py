"""The transformer, its positions, its loss, and kernels for training it on a CPU."""
