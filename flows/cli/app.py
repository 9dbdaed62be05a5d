"""The `gpt` command. Every table takes --json. Errors that a user can cause are a line or two on stderr, with exit code 2."""

import atexit
import gc
import sys

import typer

from flows import UserError
from flows.cli.artifact_commands import artifacts, diff, prune, verify
from flows.cli.model_commands import ablate, compare, explain, export, generate, pin, reproduce, runs
from flows.cli.server_commands import down, notify, serve, status, ui, up
from flows.cli.train_commands import clean, corpora, train, why
from flows.home import home

HELP = __doc__.splitlines()[0]
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=HELP
)
for group in (
    (train, clean, corpora, why),
    (generate, explain, compare, ablate, runs, reproduce, pin, export),
    (artifacts, diff, verify, prune),
    (up, serve, down, status, notify, ui),
):
    for command in group:
        app.command()(command)

# Polars and sqlite wrap the system's message in errors of their own, so the message is searched for.
DISK_ERRORS = ("No space left on device", "database or disk is full", "Disk quota exceeded", "Read-only file system")


def main() -> None:
    """The console script."""
    # Loading Prefect, MLflow and torch makes millions of objects and no garbage. Looking for some takes a second while they are
    # loaded, and two seconds at the end.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
    from data_contracts import DataError
    from gpt import GPTError
    from tokenizers import TokenizerError

    try:
        app()
        return
    except (UserError, DataError, TokenizerError, GPTError) as error:
        message = str(error)
    except PermissionError as error:
        message = f"permission is denied: {error.filename}"
    except Exception as error:
        found = [words for words in DISK_ERRORS if words in str(error)]
        if not found:
            raise
        message = f"{found[0].lower()}: {home()}; make room, and the same command goes on"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
