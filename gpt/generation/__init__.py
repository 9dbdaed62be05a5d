"""Text from a model: sampling, the cache of keys and values, and the way from tokens to text."""
