"""The `gpt` command. Every table takes --json. Errors that a user can cause are a line or two on stderr, with exit code 2."""

import atexit
import gc
import io
import os
import re
import sys
import time
import traceback

import typer

from flows import UserError
from flows.cli import model_commands as models
from flows.cli import server_commands as servers
from flows.cli import train_commands as trainings
from flows.cli.chat import chat
from flows.home import home, set_defaults
from flows.tracking.connection import without_password

app = typer.Typer(callback=set_defaults, help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False, rich_markup_mode=None)  # fmt: skip
for command in (
    trainings.train, trainings.clean, trainings.corpora, trainings.why, models.generate, chat, models.explain,
    models.compare, models.ablate, models.clones, models.runs, models.reproduce, models.pin, models.export,
    models.artifacts, models.diff, models.verify, models.prune, servers.up, servers.serve, servers.down, servers.status,
    servers.ui,
):  # fmt: skip
    app.command()(command)
app.command("import")(trainings.import_model)

# Polars and sqlite wrap the system's message in errors of their own, so the message is searched for.
DISK_ERRORS = "No space left on device|disk is full|Disk quota exceeded|Read-only file system|File too large"
DEFECT = 70  # the exit code of a defect of ours, EX_SOFTWARE of sysexits.h


def main() -> None:
    """The console script."""
    # Loading Prefect, MLflow and torch makes millions of objects and no garbage. Looking for some takes a second while they are
    # loaded, and two seconds at the end.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
    _prepare_streams()
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
        if not (found := re.search(DISK_ERRORS, str(error))):
            print(f"error: {_defect(error)}", file=sys.stderr)
            sys.exit(DEFECT)
        message = f"{found[0].lower()}: {home()}; make room, and the same command goes on"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _prepare_streams() -> None:
    """Let any text be printed, whatever the terminal's encoding, and a closed pipe end the command without a word."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed by the caller: the next file that is opened would be taken for it
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not what a test puts in its place
            stream.reconfigure(errors="backslashreplace")
            atexit.register(_flush, stream)


def _flush(stream) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _defect(error: Exception) -> str:
    """Two lines on an error that nobody foresaw; its traceback goes into a file, without passwords, or is shown."""
    doing = f"gpt {sys.argv[1] if len(sys.argv) > 1 else ''}".strip()
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    lines = without_password("".join(traceback.format_exception(error)))
    if os.environ.get("GPT_DEBUG"):
        print(lines, file=sys.stderr)
    folder = home() / "logs"
    folder.mkdir(exist_ok=True)
    file = folder / f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    file.write_text(lines, encoding="utf-8", errors="backslashreplace")
    return f"{doing} met a defect of this program: {without_password(what)}\nthe traceback is in {file}; GPT_DEBUG=1 shows it"
