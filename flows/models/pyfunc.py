"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: prompts in, continuations out.

MLflow stores this file with the model, and beside it a copy of `gpt/` and nothing else of the project. So a model keeps working
when the project changes. Requests have limits, which environment variables of the server may set.
"""

import logging
import os

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from gpt import GPTError
from gpt.config import DEFAULTS
from gpt.generation import sample


class GPTModel(PythonModel):
    """A trained decoder and its tokenizer, with the parameters of `gpt generate`."""

    def load_context(self, context):
        self.model, self.tokenizer = sample.load(context.artifacts["model"])
        logging.getLogger("mlflow.models.utils").addFilter(_refuse_unknown)

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> list[str]:
        """The continuations of the prompts in the first column of the frame, which MLflow makes of a list.

        With samples = n, each prompt has n continuations, one after another; all are generated in one batch.
        """
        prompts, settings = _checked(model_input, params)
        try:
            written = sample.texts(self.model, self.tokenizer, prompts, **settings)
        except GPTError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return [text for of_prompt in written for text in of_prompt]


def _checked(model_input: pd.DataFrame, params: dict | None) -> tuple[list[str], dict]:
    """Prompts and settings of a request. Raises MlflowException, as a client's error, if it is over the limits."""
    prompts, settings = list(model_input.iloc[:, 0]), DEFAULTS | (params or {})
    problems = [] if prompts else ['no prompt; the empty prompt, which begins a text, is [""]']
    for name, usual, what, number in (
        ("GPT_MAX_PROMPTS", 32, "prompts", len(prompts)),
        ("GPT_MAX_CHARS", 100_000, "characters of prompts", sum(map(len, prompts))),
        ("GPT_MAX_TOKENS", 4096, "max_tokens", settings["max_tokens"]),
        ("GPT_MAX_TEXTS", 128, "prompts times samples", len(prompts) * settings["samples"]),
    ):
        limit = int(os.environ.get(name, usual))
        if number > limit:
            problems.append(f"{what}: {number:,} of at most {limit:,} ({name} of the server)")
    if problems:
        raise MlflowException.invalid_parameter_value("; ".join(problems))
    return prompts, settings


def _refuse_unknown(record: logging.LogRecord) -> bool:
    """Refuse a request with an unknown parameter, which MLflow would ignore and mention in the server's log only."""
    if os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT") and "Unrecognized params" in (text := record.getMessage()):
        problem = text.replace("are ignored for inference", "are not known").partition(" To enable them")[0]
        raise MlflowException.invalid_parameter_value(problem)
    return True


mlflow.models.set_model(GPTModel())
