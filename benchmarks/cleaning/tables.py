"""The figures of the cleaning benchmark as tables, and the targets they are held against."""

from statistics import median

from rich.console import Console

from benchmarks.tables import open_console, spread, table

TIMES = {
    ("floor", 1): 0.25,
    ("floor", 2): 0.25,
    ("plain", 2): 4,
    ("datatrove", 2): 50,
}  # ours, 2 workers: as fast at least
PEAK_BYTES, GROWTH = 1.5e9, 1.10


def show(found: dict) -> str:
    """Print all tables; the same as text, which is Markdown."""
    console = open_console(found["machine"])
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
            spread(values["mb_per_s"]),
            spread(values["seconds"]),
        ]
        cells += [f"{median(values['cpu_seconds']) / size * 1e9:.1f}", f"{max(values['peak']) / 1e6:,.0f}"]
        cells += [f"{max(values.get('main_peak', [0])) / 1e6:,.0f}"]
        rows.append(cells + [f"{min(values[who]):.0%}-{max(values[who]):.0%}" for who in ("steal", "others")])
    head = ["system", "workers", "MB", "runs", "MB/s", "seconds", "CPU s/GB", "peak MB", "main MB", "steal", "others"]
    table(console, title, head, rows)


def _steps(console: Console, bytes: int, ours: dict, plain: dict) -> None:
    spent, rows = {step: median(times) for step, times in ours.items()}, []
    total = spent["total"] = sum(spent.values())
    plain["total"] = sum(plain.values())
    for step, time in spent.items():
        beside = [f"{bytes * 1e3 / plain[step]:,.0f}", f"{plain[step] / time:.1f}"] if step in plain else ["", ""]
        rows.append([step, f"{time / bytes:.2f}", f"{bytes * 1e3 / time:,.0f}", f"{time / total:.1%}", *beside])
    head = ["step", "ns/byte", "MB/s", "share", "plain Python MB/s", "times as fast"]
    table(console, "A step and a rule of ours: one file, one core, CPU time, a byte of the raw file", head, rows)


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
    table(console, "Ours with 2 workers against the targets", ["what", "measured", "wanted", ""], rows)
