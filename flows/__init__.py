"""Wiring: the only folder that knows Prefect and MLflow."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before Hugging Face's tokenizers


class UserError(ValueError):
    """What the user asked for cannot be done; the message names the thing, the value and the mend, in a line or two."""
