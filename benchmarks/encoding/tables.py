"""The figures of the encoding benchmark as tables."""

from statistics import median

from benchmarks.tables import open_console, spread, table


def show(found: dict) -> str:
    """The tables: printed, and as text."""
    console = open_console(found["machine"])
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
        rows.append([model, system, workers, len(same), spread(rates), ratio, tokens, peak, *shares])
    head = ["model", "system", "threads", "runs", "MB/s", "of raw", "M tokens/s", "peak MB", "steal", "others"]
    table(console, "Text to ids, vocabulary 8,192: MB of UTF-8 a second", head, rows)
    rows = []
    for T, system in dict.fromkeys((run["T"], run["system"]) for run in found["load"]):
        rates = [
            run["tokens"] / run["seconds"] / 1e6 for run in found["load"] if (run["T"], run["system"]) == (T, system)
        ]
        read = median(run["read"] for run in found["load"] if (run["T"], run["system"]) == (T, system))
        rows.append([system, T, len(rates), spread(rates), f"{read / 1e6:,.0f}"])
    head = ["system", "T", "runs", "M tokens/s", "MB read from disk"]
    table(console, "Batches from a cold memory map, opening included, one core", head, rows)
    rows = [
        [f"{run['bytes'] / 1e6:,.0f}", f"{run['mb_per_s']:.1f}", f"{run['peak'] / 1e6:,.0f}"] for run in found["memory"]
    ]
    table(console, "Memory of packing, unigram, 2 threads", ["MB of text", "MB/s", "peak MB"], rows)
    return console.export_text()
