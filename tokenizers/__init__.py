"""SentencePiece, trained on one's own text: lossless, deterministic, fingerprinted.

Not the Hugging Face package of the same name: this project owns its environment (see DESIGN in docs/design.md).
"""


class TokenizerError(ValueError):
    """Something given by the user cannot be used; the message names it, its value and the mend."""
