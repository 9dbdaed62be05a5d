"""What all of Wikipedia (22 GiB raw) takes on one H200 and on eight: the tables of docs/scale.md, from the constants below.

    python -m benchmarks.scale

Nothing is run. Each constant says where it is from: measured here, or assumed.
"""

from gpt.config import PRESETS

RAW = 22.08 * 2**30  # bytes of JSON: the dataset's page
KEPT = 0.888  # bytes of clean text a raw byte: measured on 111 real articles, longer than most, so rather too much
PARQUET = 0.44  # bytes on disk a byte of clean text, with rejects and card: the same
BYTES_PER_TOKEN = 3.78  # of a bpe of 8,192 pieces: the same
VAL_SHARE = 0.01  # flows/recipes/wiki.toml

NETWORK = 50e6  # bytes a second: assumed
CLEAN = 24e6  # raw bytes a second and core: 26.0 measured by one worker (2 GHz EPYC), 8 % less for short articles
DRAW = 166e6  # bytes of text a second that are read to draw the tokenizer's sample from, one core: measured
FIT = 30.0  # seconds to train the tokenizer on 32 MB: 3.1 measured for 9.6 MB, with room for rarer words
ENCODE = 3.6e6  # bytes of text a second and core, the pack stage whole, bpe: 7.2 measured on two
COMPRESS = 0.78e6  # bytes a second of gzip -9 and xz -9, the baselines of the held-out text, one core: measured
HASH = 727e6  # bytes a second of sha256, one core: measured; each stage's files are read once when they are made
SPREAD = 0.8  # of so many cores' worth is reached: assumed; 0.88 to 1.04 measured for two

PEAK = 989e12  # dense bfloat16 FLOP/s of an H200: the maker's data sheet
MFU = 0.5  # of it in training: the target of issue 5; never measured here, no GPU was at hand
TOGETHER = {1: 1.0, 8: 0.95}  # of so many cards' worth is reached by DDP in one machine: assumed
BLOCK_SIZE, VOCABULARY = 1024, 8192
EVALUATIONS = 10  # in the run, each a forward pass over the held-out text
CORES = {1: 16, 8: 128}  # beside so many cards: assumed
GPU_HOUR, CPU_HOUR = 3.50, 0.05  # dollars for a card with its 16 cores, and for a core alone: assumed

TEXT = RAW * KEPT
TOKENS = TEXT / BYTES_PER_TOKEN
SIZES = ("small", "medium", "xl")


def parameters(size: str) -> int:
    """Those in products with every token: blocks of 12 C^2, and the head (which is the token embedding too)."""
    shape = PRESETS[f"modern-{size}"]
    return shape["n_layer"] * 12 * shape["n_embd"] ** 2 + VOCABULARY * shape["n_embd"]


def flops_per_token(size: str) -> int:
    """As `gpt.model.transformer.GPT.flops_per_token`, without building one."""
    shape = PRESETS[f"modern-{size}"]
    return 6 * parameters(size) + 12 * shape["n_layer"] * shape["n_embd"] * BLOCK_SIZE


def training(size: str, cards: int) -> float:
    """Seconds for one pass over all tokens, evaluations included."""
    passes = 1 - VAL_SHARE + EVALUATIONS * VAL_SHARE / 3
    return TOKENS * passes * flops_per_token(size) / (PEAK * MFU * cards * TOGETHER[cards])


def stages(cards: int) -> dict[str, float]:
    """Seconds of each stage before training."""
    cores = CORES[cards] * SPREAD
    return {
        "download": RAW / NETWORK + RAW / HASH,
        "clean": RAW / CLEAN / cores + TEXT * PARQUET / HASH,
        "tokenize": TEXT / DRAW + FIT,
        "pack": TEXT / ENCODE / cores + TEXT * VAL_SHARE / COMPRESS + TOKENS * 2 / HASH,
    }


def disk(size: str) -> dict[str, float]:
    """GB that each stage leaves. Training: two states, of three numbers a parameter; three checkpoints and the model, here and
    in MLflow."""
    return {
        "download": RAW / 1e9,
        "clean": TEXT * PARQUET / 1e9,
        "tokenize": 0.001,
        "pack": TOKENS * 2 / 1e9,
        f"train, {size}": parameters(size) * 4 * (2 * 3 + 2 * (3 + 1)) / 1e9,
    }


def show() -> str:
    """The tables, as Markdown."""
    one, eight = stages(1), stages(8)
    rows = [["stage", "one H200, 16 cores", "eight H200, 128 cores", "disk"], ["---", "---:", "---:", "---:"]]
    left = disk("medium")
    rows += [[name, _time(one[name]), _time(eight[name]), f"{left[name]:,.1f} GB"] for name in one]
    for size in SIZES:
        gigabytes = f"{disk(size)[f'train, {size}']:,.1f} GB"
        rows.append([f"train, {size}", _time(training(size, 1)), _time(training(size, 8)), gigabytes])
    costs = [["everything, with the training of", "one H200", "eight H200"], ["---", "---:", "---:"]]
    for size in SIZES:
        cells = []
        for cards, data in ((1, one), (8, eight)):
            train, before = training(size, cards), sum(data.values())
            there = (train + before) / 3600 * cards * GPU_HOUR
            apart = train / 3600 * cards * GPU_HOUR + before / 3600 * CORES[cards] * CPU_HOUR
            cells.append(f"{_time(train + before)}, ${there:,.0f}; data on a machine without GPU ${apart:,.0f}")
        many = f"{size}, {parameters(size) / 1e6:,.0f} M parameters, {TOKENS / parameters(size):.0f} tokens each"
        costs.append([many, *cells])
    say = f"{RAW / 1e9:.1f} GB raw, {TEXT / 1e9:.1f} GB of clean text, {TOKENS / 1e9:.2f} G tokens, each seen once"
    return "\n".join([f"{say}, T {BLOCK_SIZE}:", "", *map(_row, rows), "", *map(_row, costs)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


if __name__ == "__main__":
    print(show())
