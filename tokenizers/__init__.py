"""SentencePiece, trained on one's own text: lossless, deterministic, fingerprinted.

Not the Hugging Face package of the same name, which only `gpt.data.tokenizer` loads, under another name.
"""


class TokenizerError(ValueError):
    """Something a user gave cannot be used. The message names the thing, its value and the remedy."""
