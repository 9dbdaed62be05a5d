"""How fast the decoder learns, trains and writes, on this machine's CPU, beside Hugging Face's GPT-2 of the same shape.

    make bench BENCHES=decoder                          # some forty minutes on two cores
    python -m benchmarks.decoder --runs 1 --only generate

Every figure comes from a process of its own; ours and the peer take turns. README.md says what the figures mean.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from benchmarks.decoder import tables
from benchmarks.decoder.shapes import SHAPES
from benchmarks.measure import ROOT, watch
from benchmarks.tables import Results
from data_contracts.sources.source import fetch
from flows.recipe import load_recipe

PYTHON_OF_PEERS = ROOT / ".venv-bench" / "bin" / "python"
# Without the instructions a step in bfloat16 takes minutes, of ours as of the peer.
BFLOAT16 = any(word in Path("/proc/cpuinfo").read_text() for word in ("avx512_bf16", "amx_bf16"))
MODES = [
    f"{how}-{dtype}" for how in ("eager", "compiled") for dtype in ("float32", *(["bfloat16"] if BFLOAT16 else []))
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder", description="The decoder and its peer.")
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which medians are taken (5)")
    parser.add_argument("--only", default="loss,step,generate,bits", help="some of loss,step,generate,bits")
    parser.add_argument("--seconds", type=float, default=5, help="of training steps, a figure (5)")
    parser.add_argument("--modes", default=",".join(MODES), help=f"of training steps: some of {','.join(MODES)}")
    parser.add_argument("--iterations", nargs=1, default=[], help="to the loss, instead of as many as each needs")
    parser.add_argument("--tokens", type=int, default=256, help="new ones, a figure (256)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="for the results (.bench)")
    parser.add_argument("--text", type=Path, help="tiny-shakespeare, if it is here; else it is downloaded")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    text = shakespeare(given.text, given.cache) if {"loss", "bits"} & set(given.only.split(",")) else None
    found = Results(given.cache / "decoder.json", "loss", "step", "generate", "bits")
    peers = ("hugging face",) if PYTHON_OF_PEERS.exists() else ()
    if not peers:
        print("the peer is not installed and left out: `make bench` makes .venv-bench for it")
    for seed in range(1, given.runs + 1):
        for who, layers in (
            (*((peer, "4L") for peer in peers), ("ours", "2L"), ("ours", "4L")) if "loss" in given.only else ()
        ):
            found.add("loss", _run(who, "loss", layers, seed, text, *given.iterations))
        for shape in SHAPES if "step" in given.only else ():
            for mode in given.modes.split(","):
                for who in ("ours", *peers):
                    found.add("step", _run(who, "step", shape, f"classic-{mode}", given.seconds))
            found.add("step", _run("ours", "step", shape, "modern-eager-float32", given.seconds))
        for batch in (1, 16) if "generate" in given.only else ():
            for who, family in (("ours", "classic"), *((peer, "classic") for peer in peers), ("ours", "modern")):
                found.add("generate", _run(who, "generate", batch, family, given.tokens))
        for what in ("sub-word", "characters", "GPT-2", "PPMd") if "bits" in given.only else ():
            if what != "PPMd" or seed == 1:  # it has no seed
                found.add("bits", _run("ours", "bits", what, seed, text, *given.iterations))
    (given.cache / "decoder.md").write_text(tables.show(found), encoding="utf-8")


def _run(who: str, what: str, *about: object) -> dict:
    ours = [sys.executable, "-m", "benchmarks.decoder.systems"]
    peer = [PYTHON_OF_PEERS, ROOT / "benchmarks" / "decoder" / "hugging_face.py"]
    run = watch(who, 2, [*(ours if who == "ours" else peer), what, *about], 0, 0.2)
    return run | {"what": f"{about[0]}", "mode": str(about[1])}


def shakespeare(text: Path | None, cache: Path) -> Path:
    """The file that everybody's figures are on, known by its sha256."""
    source = load_recipe("shakespeare").source
    if text is None:
        text = cache / "shakespeare" / Path(source.url).name
        if not text.exists():
            text.parent.mkdir(exist_ok=True)
            fetch(source, "shakespeare", text.parent)
    if hashlib.sha256(text.read_bytes()).hexdigest() != source.sha256:
        raise SystemExit(f"{text} is not tiny-shakespeare: its sha256 is not {source.sha256}")
    return text.resolve()


if __name__ == "__main__":
    main()
