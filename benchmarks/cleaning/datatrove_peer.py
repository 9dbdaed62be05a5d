"""datatrove's Gopher and C4 filters over the same articles; runs in .venv-bench, which has datatrove and nothing of ours.

    .venv-bench/bin/python benchmarks/cleaning/datatrove_peer.py FOLDER OUT  # FOLDER of two JSON Lines files, a worker each

Prints JSON: the seconds of the whole, and of each step, both workers together, as datatrove counts them.
"""

import json
import os
import sys
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

if __name__ == "__main__":
    folder, out = sys.argv[1:]
    os.dup2(os.open(f"{out}/log", os.O_WRONLY | os.O_CREAT), 2)  # it tells much, and each worker does
    filters = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(filter_no_terminal_punct=False)]
    steps = [JsonlReader(folder), *filters, JsonlWriter(f"{out}/kept", compression=None)]
    start = time.perf_counter()
    stats = LocalPipelineExecutor(steps, tasks=2, workers=2, logging_dir=f"{out}/logs", start_method="spawn").run()
    seconds = time.perf_counter() - start
    spent = {type(step).__name__: one.time_stats.total for step, one in zip(steps, stats.stats, strict=True)}
    print(json.dumps({"seconds": seconds, "steps": spent}))
