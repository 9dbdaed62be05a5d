"""A decoder-only transformer from scratch: torch, numpy, safetensors, sentencepiece and nothing else.

Imports point down: trainer and export to generation and evaluation; those to checkpoint and machine; those to model, that to
data, that to config and settings. Each folder says in its __init__ what is in it. Nothing is imported here: it costs nothing.
"""

import os

# How often a waiting thread of torch's looks for work before it sleeps (docs/log.md). libgomp reads it when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


class GPTError(ValueError):
    """Something a user gave cannot be used. The message, a line or two, names the thing, the value and the remedy."""
