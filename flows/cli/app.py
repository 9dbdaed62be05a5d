"""The `gpt` command. Every table takes --json. Errors that a user can cause are a line or two on stderr, with exit code 2."""

import sys

import typer

from flows import UserError
from flows.cli import artifact_commands, model_commands, server_commands, train_commands
from flows.home import home

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__.splitlines()[0],
)
for command in (
    train_commands.train,
    train_commands.clean,
    model_commands.generate,
    model_commands.explain,
    model_commands.compare,
    model_commands.runs,
    model_commands.reproduce,
    model_commands.export,
    train_commands.corpora,
    artifact_commands.artifacts,
    train_commands.why,
    artifact_commands.verify,
    artifact_commands.prune,
    server_commands.up,
    server_commands.down,
    server_commands.status,
    server_commands.ui,
):
    app.command()(command)

# Polars and sqlite wrap the system's message in errors of their own, so the message is searched for.
DISK_ERRORS = ("No space left on device", "database or disk is full", "Disk quota exceeded", "Read-only file system")


def main() -> None:
    """The console script."""
    from data_contracts import DataError
    from gpt import GPTError
    from tokenizers import TokenizerError

    try:
        app()
    except (UserError, DataError, TokenizerError, GPTError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        print(f"error: permission is denied: {error.filename}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not (words := next((words for words in DISK_ERRORS if words in str(error)), "")):
            raise
        print(
            f"error: {words[0].lower()}{words[1:]}: {home()}; make room, and the same command goes on", file=sys.stderr
        )
        sys.exit(2)
