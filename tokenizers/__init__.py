"""SentencePiece, trained on one's own text: lossless, deterministic, fingerprinted.

Not the Hugging Face package of the same name: this application owns its environment, and nothing in it needs theirs.
"""


class TokenizerError(ValueError):
    """Something given by the user cannot be used; the message names it, its value and the mend."""
