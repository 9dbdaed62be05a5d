"""The transformer, its positions, its loss, an average of its weights, and kernels for training it on a CPU."""
