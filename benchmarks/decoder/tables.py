"""The figures of the decoder benchmark as tables."""

from statistics import median

from rich.console import Console

from benchmarks.tables import open_console, spread, table

LEARNING = 8


def show(found: dict) -> str:
    """The tables: printed, and as text."""
    console = open_console(found["machine"])
    _learning(console, found["loss"])
    _bits(console, found["bits"])
    for part, title in (
        ("step", "Training: tokens a second"),
        ("generate", "Generation: new tokens a second, by batch"),
    ):
        rows = []
        for what, mode, who in dict.fromkeys((run["what"], run["mode"], run["system"]) for run in found[part]):
            same = [run for run in found[part] if (run["what"], run["mode"], run["system"]) == (what, mode, who)]
            limit = f"{median(run['limit'] for run in same):,.0f}" if "limit" in same[0] else ""
            shares = [f"{max(run[name] for run in same):.0%}" for name in ("steal", "others")]
            rates = spread([run["tokens_per_second"] for run in same])
            rows.append(
                [what, mode, who, len(same), rates, limit, f"{max(run['peak'] for run in same) / 1e6:,.0f}", *shares]
            )
        limit = "memory limit" if part == "generate" else ""
        head = [
            "shape" if part == "step" else "batch",
            "mode",
            "system",
            "runs",
            "tokens/s",
            limit,
            "peak MB",
            "steal",
            "others",
        ]
        table(console, title, head, rows)
    return console.export_text()


def _bits(console: Console, runs: list[dict]) -> None:
    rows = []
    for what in dict.fromkeys(run["what"] for run in runs):
        same = [run for run in runs if run["what"] == what]
        bits = [run["bits"] for run in same]
        figure = f"{median(bits):.4f} [{min(bits):.4f}-{max(bits):.4f}]"
        shares = [f"{max(run[who] for run in same):.0%}" for who in ("steal", "others")]
        rows.append([what, len(same), same[0]["steps"], figure, spread([run["seconds"] for run in same]), *shares])
    head = ["system", "seeds", "steps", "bits per byte", "seconds", "steal", "others"]
    table(console, "tiny-shakespeare's last tenth, as nanoGPT splits it: bits per byte", head, rows)


def _learning(console: Console, runs: list[dict]) -> None:
    rows, by_system = [], {}
    for run in runs:
        by_system.setdefault((run["system"], run["what"]), []).append(run)
    peer = by_system.get(("hugging face", "4L"), [])
    for (system, layers), same in by_system.items():
        beside = ["", ""]
        if peer and system == "ours":
            share = median(run["seconds"] for run in same) / median(run["seconds"] for run in peer)
            reached = median(run["loss"] for run in same) <= median(run["loss"] for run in peer)
            beside = [f"1/{1 / share:.1f}", f"{'' if reached and share <= 1 / LEARNING else 'NOT '}met"]
        losses = [run["loss"] for run in same]
        loss = f"{median(losses):.4f} [{min(losses):.4f}-{max(losses):.4f}]"
        shares = [f"{max(run[who] for run in same):.0%}" for who in ("steal", "others")]
        seconds = spread([run["seconds"] for run in same])
        rows.append([system, layers, len(same), same[0]["steps"], loss, seconds, *beside, *shares])
    head = [
        "system",
        "layers",
        "seeds",
        "iterations",
        "nats per character",
        "seconds",
        "of the peer's",
        "",
        "steal",
        "others",
    ]
    title = f"tiny-shakespeare to the loss that the peer ends with, in 1/{LEARNING} of its time: seconds of training"
    table(console, title, head, rows)
