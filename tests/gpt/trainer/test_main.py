"""The command line of the trainer."""

from gpt.checkpoint import load_model
from gpt.trainer.__main__ import main


def test_from_the_command_line(packed, tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text(
        '[model]\npreset = "classic-nano"\nn_layer = 1\nn_head = 2\nn_embd = 16\n'
        '[train]\nsteps = 4\noptimizer = "adamw"\n[runtime]\ndevice = "cpu"\nlog_every = 2\n'
    )
    arguments = ["--data", str(packed), "--config", str(config), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "step      4  loss" in printed
    assert "0:00 left" in printed
    assert "bits per byte of val at step 4 of 4" in printed
    assert load_model(tmp_path / "out" / "model")[0].config.positions == "learned"
    for text, message in [
        ("[train]\nstepps = 3\n", "did you mean 'steps'"),
        ("[training]\n", "sections are model, train, runtime and start"),
        ("[model]\npreset = 'nano'\n", "known are"),
        ("[model\n", "cannot be read"),
        ("[model]\nblock_size = 8\n", "block_size is 8"),
    ]:
        config.write_text(text)
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
