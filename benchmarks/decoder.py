"""How fast the decoder learns, trains and writes, on this machine's CPU, beside Hugging Face's GPT-2 of the same shape.

    make bench BENCHES=decoder                          # some forty minutes on two cores
    python -m benchmarks.decoder --runs 1 --only generate

Every figure comes from a process of its own; ours and the peer take turns. README.md says what the figures mean.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.shapes import SHAPES
from benchmarks.watching import ROOT, machine, watch
from data_contracts import sources
from flows import recipe as recipes

PYTHON_OF_PEERS = ROOT / ".venv-bench" / "bin" / "python"
# Without the instructions a step in bfloat16 takes minutes, of ours as of the peer.
BFLOAT16 = any(word in Path("/proc/cpuinfo").read_text() for word in ("avx512_bf16", "amx_bf16"))
MODES = [
    f"{how}-{dtype}" for how in ("eager", "compiled") for dtype in ("float32", *(["bfloat16"] if BFLOAT16 else []))
]
NEW = 256  # tokens
SECONDS = 5  # of training steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder", description="The decoder and its peer.")
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which medians are taken (5)")
    parser.add_argument("--only", default="loss,step,generate", help="some of loss,step,generate")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="for the results (.bench)")
    parser.add_argument("--text", type=Path, help="tiny-shakespeare, if it is here; else it is downloaded for loss")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    text = shakespeare(given.text, given.cache) if "loss" in given.only else None
    found: dict = {"machine": machine(), "loss": [], "step": [], "generate": []}
    for seed in range(1, given.runs + 1):
        if text:
            for who, layers in (("hugging face", "4L"), ("ours", "2L"), ("ours", "4L")):
                found["loss"].append(_run(who, "loss", layers, seed, text))
        if "step" in given.only:
            for shape in SHAPES:
                for mode in MODES:
                    found["step"] += [
                        _run(who, "step", shape, f"classic-{mode}", SECONDS) for who in ("ours", "hugging face")
                    ]
                found["step"].append(_run("ours", "step", shape, "modern-eager-float32", SECONDS))
        if "generate" in given.only:
            for batch in (1, 16):
                turns = (("ours", "classic"), ("hugging face", "classic"), ("ours", "modern"))
                found["generate"] += [_run(who, "generate", batch, family, NEW) for who, family in turns]
    (given.cache / "decoder.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.cache / "decoder.md").write_text(report.show_decoder(found), encoding="utf-8")


def _run(who: str, what: str, *about: object) -> dict:
    ours = [sys.executable, "-m", "benchmarks.decoders"]
    peer = [PYTHON_OF_PEERS, ROOT / "benchmarks" / "hugging_face_decoder.py"]
    run = watch(who, 2, [*(ours if who == "ours" else peer), what, *about], 0, 0.2)
    return run | {"what": f"{about[0]}", "mode": str(about[1])}


def shakespeare(text: Path | None, cache: Path) -> Path:
    """The file that everybody's figures are on, known by its sha256."""
    source = recipes.load("shakespeare").source
    if text is None:
        text = cache / "shakespeare" / Path(source.url).name
        if not text.exists():
            text.parent.mkdir(exist_ok=True)
            sources.fetch(source, "shakespeare", text.parent)
    if hashlib.sha256(text.read_bytes()).hexdigest() != source.sha256:
        raise SystemExit(f"{text} is not tiny-shakespeare: its sha256 is not {source.sha256}")
    return text.resolve()


if __name__ == "__main__":
    main()
