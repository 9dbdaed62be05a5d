"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: prompts in, continuations out.

MLflow stores this file as the model's code, with `gpt/` beside it and nothing else of the project.
"""

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    """A trained decoder and its tokenizer, answering with the same parameters as `gpt generate`."""

    def load_context(self, context):
        from gpt.generate import load

        self.model, self.tokenizer = load(context.artifacts["model"])

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> list[str]:
        """One continuation of each prompt in the first column of the frame, which MLflow makes of a list."""
        from gpt.config import DEFAULTS
        from gpt.generate import stream_text

        settings = DEFAULTS | (params or {})
        return [
            "".join(stream_text(self.model, self.tokenizer, str(prompt), **settings))
            for prompt in model_input.iloc[:, 0]
        ]


mlflow.models.set_model(Served())
