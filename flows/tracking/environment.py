"""Importing this module sets the defaults that Prefect and MLflow read from the environment when they are imported."""

from flows.home import set_defaults

set_defaults()
