"""`gpt chat` in a real pseudo-terminal, where Ctrl-C is a key."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from gpt.checkpoint import save_model
from gpt.config import ModelConfig
from gpt.model.transformer import GPT
from tests.conftest import ROOT, environment
from tests.gpt.generation.test_sample import train_tokenizer

TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"


def made(folder: Path) -> Path:
    """A model that at temperature 0 neither ends a document nor writes bytes: their logits are 0."""
    tokenizer = train_tokenizer()
    torch.manual_seed(3)
    model = GPT(ModelConfig(tokenizer.vocab_size(), 64, n_layer=1, n_head=2, n_embd=32, zero_init=False))
    with torch.no_grad():
        model.tokens.weight[: tokenizer.piece_to_id("<0xFF>") + 1] = 0
    save_model(folder, model)
    (folder / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    return folder


def test_a_chat_goes_on_after_ctrl_c_and_is_saved(tmp_path):
    model, saved = made(tmp_path / "model"), tmp_path / "chat.txt"
    command = [sys.executable, "-m", "flows.cli", "chat", str(model), "--you", "ANN", "--name", "BOB"]
    command = [sys.executable, "-c", TERMINAL, *command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with ExitStack() as stack:
        chat = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path / "home"), **pipes))
        stack.callback(chat.kill)
        shown = b""

        def until(words: str) -> str:
            nonlocal shown
            while words.encode() not in shown:
                piece = chat.stdout.read(4096)
                assert piece, shown[-500:]
                shown += piece
            text, _, shown = shown.partition(words.encode())
            return text.decode()

        def type_in(line: str) -> None:
            chat.stdin.write(line.encode())

        assert "/seed" in until("ANN: ")
        type_in("/temperature hot\n")
        assert "hot" in until("ANN: ")
        for setting in ("/temperature 0\n", "/max_tokens 10000000\n"):
            type_in(setting)
            until("ANN: ")
        for _ in range(2):
            type_in("the quick\n")
            until("BOB:")
            shown = shown or chat.stdout.read(1)  # it has begun, and would never end
            type_in("\x03")
            until("ANN: ")
        type_in("/seed 7\n")
        until("ANN: ")
        type_in("/nothing\n")
        assert "/save FILE" in until("ANN: ")
        type_in(f"/save {saved}\n")
        until("ANN: ")
        type_in(f"/save {tmp_path}\n")
        assert "Is a directory" in until("ANN: ")
        type_in("\x04")
        assert chat.wait(60) == 0, shown
    lines = saved.read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["ANN", "BOB", "ANN", "BOB"]
    assert lines[0] == lines[2] == "ANN: the quick"
    assert len(lines[1]) > len("BOB: ")
