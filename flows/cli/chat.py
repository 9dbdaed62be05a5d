"""`gpt chat`: a person and a model take turns in the terminal. Ctrl-C ends an answer, not the chat."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.model_commands import Model
from gpt import GPTError
from gpt.config import DEFAULTS

HELP = """/seed, /temperature, /top_k, /max_tokens NUMBER   of the answers that follow
/save FILE   write the chat as it stands
/help        this; Ctrl-C ends an answer, Ctrl-D the chat"""


def chat(
    model: Model,
    you: Annotated[str, typer.Option(help="your name in it")] = "USER",
    name: Annotated[str, typer.Option(help="the model's name in it")] = "ASSISTANT",
):
    """Talk to a model: it continues a text of `NAME: text`, a line a turn. /help lists the commands."""
    import readline  # noqa: F401  gives input() the arrow keys, and what was typed before

    from flows.models import lookup
    from gpt.generation import sample
    from gpt.generation.text import chat_prompt

    loaded, turns = sample.load(lookup.find(model)), list[tuple[str, str]]()
    settings = {f"/{setting}": DEFAULTS[setting] for setting in ("seed", "temperature", "top_k", "max_tokens")}
    print(HELP)
    while True:
        try:
            line = input(f"{you}: ")
            command, _, value = line.partition(" ")
            if command in settings:
                settings[command] = type(settings[command])(value)
            elif command == "/save":
                Path(value).write_text("".join(f"{who}: {text}\n" for who, text in turns), encoding="utf-8")
            elif line.startswith("/"):
                print(HELP)
            elif line:
                prompt, stop = chat_prompt([*turns, (you, line)], name)
                how = {setting[1:]: value for setting, value in settings.items()}
                pieces = sample.stream_texts(*loaded, [prompt], stop=stop, **how)
                turns += [(you, line), (name, "")]
                print(f"{name}:", end="", flush=True)
                for _, piece in pieces:
                    turns[-1] = name, (turns[-1][1] + piece).lstrip(" ")
                    print(piece, end="", flush=True)
                print()
        except KeyboardInterrupt:
            print()
        except EOFError:
            return print()
        except (GPTError, ValueError, OSError) as error:
            print(error)
