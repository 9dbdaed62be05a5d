"""The figures of cleaning.py as tables, and what they are held against."""

from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

TIMES = {
    ("floor", 1): 0.25,
    ("floor", 2): 0.25,
    ("plain", 2): 4,
    ("datatrove", 2): 50,
}  # ours, 2 workers: as fast at least
PEAK_BYTES, GROWTH = 1.5e9, 1.10
LEARNING = 8
OVERHEAD = {"gpt --help": 0.3, "gpt corpora": 0.5, "unchanged train/python-docs": 15}


def line(run: dict) -> str:
    """One run, as it ends."""
    who, busy = f"{run['system']:>9} {run['workers']}", f"steal {run['steal']:.0%}, others {run['others']:.0%}"
    if "loss" in run:
        return f"{who}: {run['loss']:.4f} nats in {run['seconds']:.1f} s, {busy}"
    if "tokens_per_second" in run:
        return f"{who}: {run['tokens_per_second']:,.0f} tokens/s, {busy}"
    return f"{who}: {run['mb_per_s']:6.1f} MB/s, {run['bytes'] / 1e6:,.0f} MB in {run['seconds']:.1f} s, {busy}"


def show(found: dict) -> str:
    """Print all tables; the same as text, which is Markdown."""
    console = Console(record=True, width=132, markup=False, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in found["machine"].items()), soft_wrap=True)
    _runs(console, "Raw JSON to Parquet: median [least-most] of the runs", found["runs"])
    _runs(console, "Memory and growth", found["memory"])
    if found["steps"]:
        _steps(console, **found["steps"])
    for run in found["runs"]:
        if run["system"] == "datatrove":
            rates = ", ".join(f"{name} {run['bytes'] / 1e6 / spent:,.2f}" for name, spent in run["steps"].items())
            console.print(f"\ndatatrove a step, MB/s on one core, mostly spaCy's: {rates}", soft_wrap=True)
    _targets(console, found)
    return console.export_text()


def show_encoding(found: dict) -> str:
    """The tables of encoding.py: printed, and as text."""
    console = Console(record=True, width=132, markup=False, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in found["machine"].items()), soft_wrap=True)
    rows, medians = [], {}
    for run in found["encode"] + found["pack"]:
        medians.setdefault((run["model"], run["system"], run["workers"]), []).append(run)
    for (model, system, workers), same in medians.items():
        rates = [run["mb_per_s"] for run in same]
        base = medians.get((model, "raw", workers))
        ratio = f"{median(rates) / median([run['mb_per_s'] for run in base]):.2f}" if base else ""
        tokens = f"{median(run['tokens'] / run['seconds'] for run in same) / 1e6:.1f}"
        shares = [f"{max(run[who] for run in same):.0%}" for who in ("steal", "others")]
        peak = f"{max(run['peak'] for run in same) / 1e6:,.0f}"
        rows.append([model, system, workers, len(same), _spread(rates), ratio, tokens, peak, *shares])
    head = ["model", "system", "threads", "runs", "MB/s", "of raw", "M tokens/s", "peak MB", "steal", "others"]
    _table(console, "Text to ids, vocabulary 8,192: MB of UTF-8 a second", head, rows)
    rows = []
    for T, system in dict.fromkeys((run["T"], run["system"]) for run in found["load"]):
        rates = [
            run["tokens"] / run["seconds"] / 1e6 for run in found["load"] if (run["T"], run["system"]) == (T, system)
        ]
        read = median(run["read"] for run in found["load"] if (run["T"], run["system"]) == (T, system))
        rows.append([system, T, len(rates), _spread(rates), f"{read / 1e6:,.0f}"])
    head = ["system", "T", "runs", "M tokens/s", "MB read from disk"]
    _table(console, "Batches from a cold memory map, opening included, one core", head, rows)
    rows = [
        [f"{run['bytes'] / 1e6:,.0f}", f"{run['mb_per_s']:.1f}", f"{run['peak'] / 1e6:,.0f}"] for run in found["memory"]
    ]
    _table(console, "Memory of packing, unigram, 2 threads", ["MB of text", "MB/s", "peak MB"], rows)
    return console.export_text()


def show_decoder(found: dict) -> str:
    """The tables of decoder.py: printed, and as text."""
    console = Console(record=True, width=132, markup=False, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in found["machine"].items()), soft_wrap=True)
    _learning(console, found["loss"])
    for part, title in (
        ("step", "Training: tokens a second"),
        ("generate", "Generation: new tokens a second, by batch"),
    ):
        rows = []
        for what, mode, who in dict.fromkeys((run["what"], run["mode"], run["system"]) for run in found[part]):
            same = [run for run in found[part] if (run["what"], run["mode"], run["system"]) == (what, mode, who)]
            limit = f"{median(run['limit'] for run in same):,.0f}" if "limit" in same[0] else ""
            shares = [f"{max(run[name] for run in same):.0%}" for name in ("steal", "others")]
            rates = _spread([run["tokens_per_second"] for run in same])
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
        _table(console, title, head, rows)
    return console.export_text()


def show_overhead(found: dict, steps: tuple[int, int]) -> str:
    """The tables of overhead.py: printed, and as text."""
    console = Console(record=True, width=132, markup=False, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in found["machine"].items()), soft_wrap=True)
    same: dict[tuple, list[dict]] = {}
    for run in found["overhead"]:
        same.setdefault((run["what"], run.get("steps", "")), []).append(run)
    rows = []
    for (what, n), runs in same.items():
        cells = [
            _spread([run[name] for run in runs], 2) if name in runs[0] else ""
            for name in ("seconds", "cpu_seconds", "assessing")
        ]
        wanted = f"<= {OVERHEAD[what]}" if what in OVERHEAD else ""
        rows.append([what, n, len(runs), *cells, wanted])
    head = ["what", "steps", "runs", "seconds", "CPU seconds", "assessing, seconds", "wanted"]
    _table(console, "What the machinery costs", head, rows)
    if same.keys() >= {("flow", steps[1]), ("trainer alone", steps[0])}:
        console.print(_share(same, steps))
    return console.export_text()


def _share(same: dict[tuple, list[dict]], steps: tuple[int, int]) -> str:
    """The flow's seconds without the trainer's and those of assessing the model, as a fixed cost and a cost a step, and what
    that is of ten minutes' training."""
    of = {key: median(run["seconds"] - run.get("assessing", 0) for run in runs) for key, runs in same.items()}
    few, many = (of["flow", n] - of["trainer alone", n] for n in steps)
    each = (many - few) / (steps[1] - steps[0])
    fixed = few - each * steps[0]
    pace = (of["trainer alone", steps[1]] - of["trainer alone", steps[0]]) / (steps[1] - steps[0])
    whole = fixed + each * 600 / pace
    return (
        f"orchestration and tracking: {fixed:.1f} s and {1e3 * each:.2f} ms a step of {1e3 * pace:.1f} ms\n"
        f"of {steps[1]} steps: {many:.1f} s, {many / of['trainer alone', steps[1]]:.1%}; "
        f"of ten minutes of training: {whole:.1f} s, {whole / 600:.1%} (wanted: 2 %)"
    )


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
        seconds = _spread([run["seconds"] for run in same])
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
    _table(console, title, head, rows)


def _runs(console: Console, title: str, runs: list[dict]) -> None:
    rows = []
    for system, workers, size in dict.fromkeys((run["system"], run["workers"], run["bytes"]) for run in runs):
        same = [run for run in runs if (run["system"], run["workers"], run["bytes"]) == (system, workers, size)]
        values = {name: [run.get(name, 0) for run in same] for name in same[0]}
        cells = [
            system,
            workers,
            f"{size / 1e6:,.0f}",
            len(same),
            _spread(values["mb_per_s"]),
            _spread(values["seconds"]),
        ]
        cells += [f"{median(values['cpu_seconds']) / size * 1e9:.1f}", f"{max(values['peak']) / 1e6:,.0f}"]
        cells += [f"{max(values.get('main_peak', [0])) / 1e6:,.0f}"]
        rows.append(cells + [f"{min(values[who]):.0%}-{max(values[who]):.0%}" for who in ("steal", "others")])
    head = ["system", "workers", "MB", "runs", "MB/s", "seconds", "CPU s/GB", "peak MB", "main MB", "steal", "others"]
    _table(console, title, head, rows)


def _steps(console: Console, bytes: int, ours: dict, plain: dict) -> None:
    spent, rows = {step: median(times) for step, times in ours.items()}, []
    total = spent["total"] = sum(spent.values())
    plain["total"] = sum(plain.values())
    for step, time in spent.items():
        beside = [f"{bytes * 1e3 / plain[step]:,.0f}", f"{plain[step] / time:.1f}"] if step in plain else ["", ""]
        rows.append([step, f"{time / bytes:.2f}", f"{bytes * 1e3 / time:,.0f}", f"{time / total:.1%}", *beside])
    head = ["step", "ns/byte", "MB/s", "share", "plain Python MB/s", "times as fast"]
    _table(console, "A step and a rule of ours: one file, one core, CPU time, a byte of the raw file", head, rows)


def _targets(console: Console, found: dict) -> None:
    rates, rows = {}, []
    for run in found["runs"]:
        rates.setdefault((run["system"], run["workers"]), []).append(run["mb_per_s"])
    for (system, workers), least in TIMES.items():
        ours, other = rates.get(("ours", 2)), rates.get((system, workers))
        if ours and other:
            ratio, spread = median(ours) / median(other), f"[{min(ours) / max(other):.2f}-{max(ours) / min(other):.2f}]"
            rows.append(
                (f"times {system}, {workers} at a time", f"{ratio:.2f} {spread}", f">= {least}", ratio >= least)
            )
    if found["equal"]:
        rows.append(("texts, ids, reasons as plain Python's", "equal: yes", "yes", True))
    if found["memory"]:
        first, last = found["memory"][0], found["memory"][-1]
        sizes = f"{last['bytes'] / 1e6:,.0f} MB to {first['bytes'] / 1e6:,.0f} MB"
        peak, growth = first["peak"], last["peak"] / first["peak"]
        slower = first["mb_per_s"] / last["mb_per_s"]
        rows.append(
            (f"peak at {first['bytes'] / 1e6:,.0f} MB", f"{peak / 1e6:,.0f} MB", "<= 1,500", peak <= PEAK_BYTES)
        )
        rows.append((f"peak, {sizes}", f"{growth:.2f}", f"<= {GROWTH}", growth <= GROWTH))
        rows.append((f"seconds a byte, {sizes}", f"{slower:.2f}", f"<= {GROWTH}", slower <= GROWTH))
    rows = [[*row, "met" if met else "NOT met"] for *row, met in rows]
    _table(console, "Ours with 2 workers against the targets", ["what", "measured", "wanted", ""], rows)


def _table(console: Console, title: str, head: list[str], rows: list[list]) -> None:
    if not rows:
        return
    table = Table(box=box.MARKDOWN)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    console.print(f"\n## {title}", table, sep="\n")


def _spread(values: list[float], digits: int = 1) -> str:
    digits = 0 if max(values) >= 100 else digits
    least, most = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return f"{median(values):,.{digits}f}" + (f" [{least}-{most}]" if len(values) > 1 else "")
