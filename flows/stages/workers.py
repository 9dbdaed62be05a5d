"""Many shards at a time: how the clean stage spreads over processes, or over machines.

Processes, not threads: much of cleaning holds Python's lock. The runner is Prefect's own, or Dask's by prefect-dask (extra
`dask`), so every shard is a task run that can be seen, and an error in a worker arrives here as it was raised.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows import UserError
from flows.home import variables
from flows.recipe import Workers
from gpt.machine.hardware import usable_cores

SETTINGS = {  # which workers inherit
    "POLARS_MAX_THREADS": "1",  # there is a worker a core
    # polars' allocator keeps freed memory for the next rule, for 3 s instead of none to speak of: 8 % of the time of a shard.
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:3000,muzzy_decay_ms:0",
    "DASK_LOGGING__DISTRIBUTED": "warning",
}
Map = Callable[[Callable, list], Iterable]


@contextmanager
def spread(workers: Workers) -> Iterator[Map]:
    """A `map` for clean_corpus: here, when there is one worker or one shard; else over workers, results in order. The workers
    start with the first shards and stay until the end."""
    with ExitStack() as stack:
        runner: list[TaskRunner] = []

        def over(function: Callable, shards: list) -> Iterator:
            count = min(workers.count or usable_cores(), len(shards))
            if not runner and count < 2 and not workers.dask:
                yield from map(function, shards)
                return
            if not runner:
                # With the address of this process's temporary server, where there is no other, they start none of their own.
                address = PREFECT_API_URL.value() or str(get_client(sync_client=True).api_url).rstrip("/")
                stack.enter_context(variables(SETTINGS | {"PREFECT_API_URL": address}))
                stack.enter_context(temporary_settings({PREFECT_API_URL: address}))
                runner.append(stack.enter_context(_runner(workers.dask, count)))
            step = task(name=function.__name__.replace("_", "-"), persist_result=False, cache_policy=NO_CACHE)(call)
            # A future keeps its result, and its arguments, for as long as it lives.
            waiting = [runner[0].submit(step, {"function": function, "shard": shard}) for shard in shards]
            while waiting:
                try:
                    yield waiting.pop(0).result()
                except Exception as error:
                    # The second is distributed's, which may not be here.
                    if not isinstance(error, BrokenExecutor) and type(error).__name__ != "KilledWorker":
                        raise
                    problem = f"one of {count} workers was killed, as a rule by the system when memory is short"
                    mend = "set workers.count to fewer; shards that are done are not done again"
                    raise UserError(f"{problem}: {mend}") from None

        yield over


def call(function: Callable, shard: object) -> object:
    return function(shard)


def _runner(dask: str, count: int) -> TaskRunner:
    if not dask:
        return ProcessPoolTaskRunner(max_workers=count)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError:
        raise UserError("workers.dask needs the extra `dask`: pip install 'prefect-dask==0.3.7'") from None
    if dask == "local":
        return DaskTaskRunner(cluster_kwargs={"n_workers": count, "threads_per_worker": 1, "dashboard_address": None})
    return DaskTaskRunner(address=dask)
