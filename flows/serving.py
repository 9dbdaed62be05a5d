"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: prompts in, continuations out.

MLflow stores this file as the model's code, with `gpt/` beside it and nothing else of the project.
"""

import mlflow
from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    """A trained decoder and its tokenizer, answering with the same parameters as `gpt generate`."""

    def load_context(self, context):
        from gpt.generate import load

        self.model, self.tokenizer = load(context.artifacts["model"])

    def predict(
        self, context, model_input, params=None
    ):  # type hints here would replace the signature, parameters and all
        """model_input: prompts, as a list or the first column of a frame. Returns a list of continuations."""
        from gpt.generate import DEFAULTS, stream_text

        prompts = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        settings = DEFAULTS | (params or {})
        return ["".join(stream_text(self.model, self.tokenizer, str(prompt), **settings)) for prompt in prompts]


mlflow.models.set_model(Served())
