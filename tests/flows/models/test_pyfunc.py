"""A logged model runs the code that was logged with it, whatever the project has become since."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow

from tests.conftest import ROOT, environment

# The shape of a model that was logged when `gpt` was one flat folder. Its model only reverses prompts.
FLAT_GPT = {
    "__init__.py": "class GPTError(ValueError): pass\n",
    "generate.py": """
from pathlib import Path

def load(folder):
    return Path(folder, "suffix").read_text(), None

def texts(model, tokenizer, prompts, **settings):
    return [[prompt[::-1] + model] for prompt in prompts]
""",
}
FLAT_PYFUNC = """
import mlflow
from mlflow.pyfunc import PythonModel

class Served(PythonModel):
    def load_context(self, context):
        from gpt.generate import load

        self.model, self.tokenizer = load(context.artifacts["model"])

    def predict(self, context, model_input, params=None):
        from gpt.generate import texts

        return [text for (text,) in texts(self.model, self.tokenizer, model_input)]

mlflow.models.set_model(Served())
"""
LOAD = """
import json, sys
import mlflow

model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps([model.predict(["abc"]), sys.modules["gpt"].__file__]))
"""


def test_a_model_logged_with_another_layout_of_gpt_still_loads(tmp_path):
    """In the project's own environment and folder, where the present `gpt` can be imported too."""
    for folder in ("gpt", "weights"):
        (tmp_path / folder).mkdir()
    for name, text in FLAT_GPT.items():
        (tmp_path / "gpt" / name).write_text(text)
    (tmp_path / "weights" / "suffix").write_text("!")
    (tmp_path / "serving.py").write_text(FLAT_PYFUNC)
    mlflow.pyfunc.save_model(
        tmp_path / "model",
        python_model=str(tmp_path / "serving.py"),
        code_paths=[str(tmp_path / "gpt")],
        artifacts={"model": str(tmp_path / "weights")},
        pip_requirements=[],
    )
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "model")],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    texts, module = json.loads(result.stdout.splitlines()[-1])
    assert texts == ["cba!"]
    assert Path(module) == tmp_path / "model" / "code" / "gpt" / "__init__.py"
