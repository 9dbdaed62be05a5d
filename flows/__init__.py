"""Wiring: the only folder that knows Prefect and MLflow."""


class UserError(ValueError):
    """What the user asked for cannot be done; the message names the thing, the value and the mend, in a line or two."""
