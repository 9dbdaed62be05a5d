"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: prompts in, continuations out.

MLflow stores this file as the model's code, with `gpt/` beside it and nothing else of the project.
"""

from collections.abc import Iterator

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    """A trained decoder and its tokenizer, answering with the same parameters as `gpt generate`."""

    def load_context(self, context):
        from gpt.generate import load

        self.model, self.tokenizer = load(context.artifacts["model"])

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> list[str]:
        """The continuations of each prompt in the first column of the frame, which MLflow makes of a list.

        With params samples = n, the n continuations of a prompt follow one another; they are written side by side.
        """
        from gpt.config import DEFAULTS
        from gpt.generate import texts

        prompts = [str(prompt) for prompt in model_input.iloc[:, 0]]
        written = texts(self.model, self.tokenizer, prompts, **(DEFAULTS | (params or {})))
        return [text for of_prompt in written for text in of_prompt]

    def predict_stream(self, context, model_input: pd.DataFrame, params: dict | None = None) -> Iterator[str]:
        """The first continuation of the first prompt, piece by piece, as soon as its characters are whole."""
        from gpt.config import DEFAULTS
        from gpt.generate import stream_text

        settings = DEFAULTS | (params or {}) | {"samples": 1}
        yield from stream_text(self.model, self.tokenizer, str(model_input.iloc[0, 0]), **settings)


mlflow.models.set_model(Served())
