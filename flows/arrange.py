"""Limits and automations, which belong to no deployment."""


def arrange() -> list[str]:
    """Make them on the server at PREFECT_API_URL, or leave them as they are. Returns a line for each."""
    return []
