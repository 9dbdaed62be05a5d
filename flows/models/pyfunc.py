"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: prompts in, continuations out.

MLflow stores this file as the model's code, with `gpt/` beside it and nothing else of the project. A request has limits, which
the environment of the server may set; what is wrong with one is told in a line.
"""

import logging
import os
from collections.abc import Iterator

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

LIMITS = {"GPT_MAX_PROMPTS": 32, "GPT_MAX_CHARS": 100_000, "GPT_MAX_TOKENS": 4096, "GPT_MAX_TEXTS": 128}


class Served(PythonModel):
    """A trained decoder and its tokenizer, answering with the same parameters as `gpt generate`."""

    def load_context(self, context):
        from gpt.generation.sample import load

        self.model, self.tokenizer = load(context.artifacts["model"])
        logging.getLogger("mlflow.models.utils").addFilter(_refuse_unknown)

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> list[str]:
        """The continuations of each prompt in the first column of the frame, which MLflow makes of a list.

        With params samples = n, the n continuations of a prompt follow one another; they are written side by side.
        """
        from gpt import GPTError
        from gpt.generation.sample import texts

        prompts, settings = _checked(model_input, params)
        try:
            written = texts(self.model, self.tokenizer, prompts, **settings)
        except GPTError as error:
            raise _bad(str(error)) from None
        return [text for of_prompt in written for text in of_prompt]

    def predict_stream(self, context, model_input: pd.DataFrame, params: dict | None = None) -> Iterator[str]:
        """The first continuation of the first prompt, piece by piece, as soon as its characters are whole."""
        from gpt.generation.sample import stream_text

        prompts, settings = _checked(model_input, params)
        yield from stream_text(self.model, self.tokenizer, prompts[0], **settings | {"samples": 1})


def _checked(model_input: pd.DataFrame, params: dict | None) -> tuple[list[str], dict]:
    """Prompts and settings of a request. Raises MlflowException, a client's error, for one over the limits."""
    from gpt.config import DEFAULTS

    prompts, settings = list(model_input.iloc[:, 0]), DEFAULTS | (params or {})
    limits = {name: int(os.environ.get(name, most)) for name, most in LIMITS.items()}
    asked = {
        "GPT_MAX_PROMPTS": ("prompts", len(prompts)),
        "GPT_MAX_CHARS": ("characters of prompts", sum(map(len, prompts))),
        "GPT_MAX_TOKENS": ("max_tokens", settings["max_tokens"]),
        "GPT_MAX_TEXTS": ("prompts times samples", len(prompts) * settings["samples"]),
    }
    problems = [
        f"{what}: {number:,} of at most {limits[name]:,} ({name} of the server)"
        for name, (what, number) in asked.items()
        if number > limits[name]
    ]
    if not prompts:
        problems = ['no prompt; the empty prompt, which begins a text, is [""]']
    if problems:
        raise _bad("; ".join(problems))
    return prompts, settings


def _bad(problem: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(problem)


def _refuse_unknown(record: logging.LogRecord) -> bool:
    """MLflow leaves out a parameter that it does not know, and tells the server's log alone: here whoever asked is told."""
    if os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT") and "Unrecognized params" in (text := record.getMessage()):
        raise _bad(text.replace("are ignored for inference", "are not known").partition(" To enable them")[0])
    return True


mlflow.models.set_model(Served())
