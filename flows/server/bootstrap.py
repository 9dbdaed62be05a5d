"""What the servers of `gpt up` are to know, in a process of its own, which ends when done: `python -m flows.server.bootstrap`.

It checks prefect.yaml while the servers start; then come the work pool with its queues, the deployments, limits and
automations, and MLflow's experiment.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from flows import UserError
from flows.home import prepare
from flows.server.processes import Service, answering

POOL, QUEUES = "gpt", ("gpu", "cpu")


def main(answer: Path, file: Path, waits_for: list[str]) -> None:
    """answer: receives what to tell. file: the prefect.yaml. waits_for: addresses of the servers."""
    prepare()
    from flows.server import prefect_yaml

    found = prefect_yaml.check(file)
    from flows.server.arrange import arrange
    from flows.tracking import run as tracking  # while the servers start

    for address in waits_for:  # `gpt up` ends this process if a server does not start
        while not answering(Service("", [], {}, address)):
            time.sleep(0.3)
    pools = make_pool()
    prefect_yaml.check_pools(file, found, pools)
    prefect_yaml.deploy(file)
    lines = [f"deployments    {len(found)} of {file.name}", *arrange()]
    answer.write_text(json.dumps({"lines": lines, "experiment": tracking.experiment_id()}))


def make_pool() -> set[str]:
    """The work pool and its queues, where they are missing. Returns the names of all pools."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        pools = {pool.name for pool in client.read_work_pools()}
        if POOL not in pools:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        for queue in QUEUES:
            with suppress(ObjectAlreadyExists):
                client.create_work_queue(queue, work_pool_name=POOL)
    return pools | {POOL}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
