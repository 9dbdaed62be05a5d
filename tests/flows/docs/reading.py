"""Every command of the README and of docs/ is run, in its order, as a reader would type it; what is adapted is said here.

Corpora come from stand-ins of their raw files instead of Kaggle, models are tiny, ports are free ones, and servers run in the
background until their document ends. `make` is asked what it would do: CI and a fresh clone run it.
"""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.conftest import ROOT, environment
from tests.flows.conftest import free_port, stop, wait_for

PROGRAMS = ("gpt ", "make ", "prefect ", "mlflow", "python ", "curl ", "export ", "source ", "torchrun ", "MLFLOW_")
# What a command says, and what is run: of the size of a test, at free ports, with what is here.
SMALL = {"clean.val_fraction": 0.2, "tokenizer.vocab_size": 400, "pack.block_size": 32, "model.n_layer": 1,
         "model.n_embd": 32, "model.n_head": 2, "train.batch_size": 4, "train.eval_every": 20,
         "sample.max_tokens": 10, "runtime.threads": 1}  # fmt: skip
BROUGHT = ("shakespeare", "wsb", "wiki")  # whose raw files the reader has in ~/raw
ADAPTED = {
    r"--steps \d+": "--steps 40",
    r"--minutes \d+": "--minutes 0.3",
    r"--size (tiny|small|medium|large|xl)": "--size nano",
    r"(processes)=\d+": r"\1=2",
    r"(micro_batch_size)=\d+": r"\1=2",
    r"tcp://scheduler:8786": "local",
    r"--set source\.max_files=\d+": "",  # of a download
    r"gpt-wsb/3": "gpt-wsb/1",
    r"mix\.trump": "mix.shakespeare",
    r"RUN_ID": "$(gpt runs --corpus shakespeare --best --json | grep -oE '[0-9a-f]{32}' | head -1)",
    r"steps=\d+": "steps=40",
    r"--more \d+": "--more 20",
    r"^make train$": "gpt train python-docs",
    r"^make ": "make --dry-run ",
    r"^gpt ui$": "gpt ui --port 5000",
    r"^gpt serve$": "gpt serve --port 8080",
    r"^gpt chat (.*)": r"gpt chat \1 < /dev/null",
    r"^gpt prune$": "gpt prune --yes",
    r"^gpt up": "gpt up --port 4200 --mlflow-port 5000 --serve-port 8080",
    r"(schedule pause train/wsb) ID": r"\1 $(prefect deployment schedule ls train/wsb | grep -oE '[0-9a-f-]{36}' | head -1)",
    r"-p size=(small)": "-p size=nano",
    r"-p 'overrides=.*?'": "",
    r"<key>": "$(ls .gpt/artifacts/shakespeare/pack | head -1)",
    r"/path/to/\.gpt": ".gpt",
    r"--from novel\.txt": "--from ~/raw/shakespeare/input.txt",
    r"--from old\.csv (.*)koi8_r (.*)\";\"": r"--from reviews.csv \1ascii \2','",
}
CONFIG = """[model]
preset = "modern-nano"
n_layer = 1
[train]
steps = 20
batch_size = 4
"""
SERVERS = ("gpt ui", "gpt serve", "mlflow models serve", r"gpt up( --port \d+ --mlflow-port \d+ --serve-port \d+)?$")
BEFORE = {
    "docs/operate.md": ["gpt up --detach", "export PREFECT_API_URL=http://127.0.0.1:4200/api"]
}  # it begins with these there
# What other tests do: stand-ins of stores, PostgreSQL and two machines, a password.
ELSEWHERE = {
    "docs/scale.md": ".*",
    "README.md": r"gpt (ablate|clones|import)|.* --start-from gpt2|gpt train --from (hf|s3)://"
    r"|gpt up --host 0\.0\.0\.0|export .*//that-machine",
}


def commands(document: Path) -> list[str]:
    """Of the indented blocks: lines that begin with a program, each with its continuation and without its comment."""
    text = re.sub(r"(?ms)^```.*?^```$", "", (ROOT / document).read_text(encoding="utf-8"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found = [line[4:].strip() for line in lines if line.startswith("    ") and line[4:].startswith(PROGRAMS)]
    found = [re.sub(r"\s{2,}#.*", "", line) for line in found]
    elsewhere = ELSEWHERE.get(str(document), "nothing")
    return BEFORE.get(str(document), []) + [line for line in found if not re.match(elsewhere, line)]


def table(columns: dict[str, str], rows: list[str]) -> str:
    """A CSV whose text column, named by an empty value, holds the rows."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    for number, text in enumerate(rows):
        writer.writerow([value.format(number) or text for value in columns.values()])
    return file.getvalue()


def adapted(command: str, ports: dict[str, str]) -> str:
    for pattern, instead in ADAPTED.items():
        command = re.sub(pattern, instead, command)
    for port, free in ports.items():
        command = re.sub(rf"\b{port}\b", free, command)
    found = re.match(r"gpt (train|clean|why)( [a-z][a-z-]*)?(?= |$)", command)
    if found and "--more" not in command:  # by the champion's settings
        corpus = (found[2] or "").strip()
        chosen = r"(?!model|tokenizer|pack)" if "--start-from" in command else ""  # which the other model decides
        more = "".join(f" --set {name}={value}" for name, value in SMALL.items() if re.match(chosen, name))
        more += f" --from ~/raw/{corpus}" if corpus in BROUGHT else ""
        more += " --steps 40" if found[1] == "train" and not re.search("--steps|--minutes", command) else ""
        command = f"{found[0]}{more}{command[found.end() :]}"  # what the document sets comes last, and counts
    if found := re.match(r"prefect deployment run train/(\S+)", command):
        command += f" -p 'overrides={json.dumps(SMALL)}'"
        command += f" -p source=$HOME/raw/{found[1]}" if found[1] in BROUGHT else ""
    return command


def end(servers: list[subprocess.Popen]) -> None:
    """With what a shell has started."""
    while servers:
        with suppress(ProcessLookupError):
            os.killpg(servers[-1].pid, signal.SIGTERM)
        stop(servers.pop())


def run_all(document: str, reader: Path, project: Path, prefect_server: str) -> None:
    """Runs a document's commands, one after the other; fails with all that went wrong."""
    found = commands(Path(document))
    ports = {port: str(free_port()) for port in ("4200", "5000", "5001", "8080")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    alone = environment(project / ".gpt", HOME=str(reader), PATH=path, COLUMNS="200")
    served = alone | {"PREFECT_API_URL": prefect_server}  # so that no command waits for a temporary server of its own
    more = served
    before, python, servers, wrong = "", "import mlflow\n", [], []
    try:
        for command in found:
            asked = adapted(command, ports)
            if command.startswith(("export ", "source ")):
                before += f"{asked}\n"
                continue
            if command.startswith("mlflow."):
                python += f"{asked}\n"
                script = [sys.executable, "-c", python]
            else:
                script = ["bash", "-c", before + asked]
            if command.startswith("gpt up"):
                end(servers)  # gpt ui has its port
                more = alone
            if re.search("|".join(SERVERS), command):
                servers.append(subprocess.Popen(script, cwd=project, env=more, start_new_session=True))
                port = re.search("|".join(ports.values()), asked)
                wait_for(f"http://127.0.0.1:{port[0]}/{'ping' if 'mlflow' in command else ''}", servers[-1], 600)
                while command == "gpt up" and subprocess.run(["bash", "-c", "gpt status"], env=more).returncode:
                    assert servers[-1].poll() is None, "gpt up ended"
                continue
            if command == "gpt down":
                before = ""  # the rest is not for the terminal that knows its servers
            done = subprocess.run(script, cwd=project, env=more, capture_output=True, text=True, timeout=600)
            if command == "gpt down":
                more = served
            if done.returncode:
                wrong.append(f"{command}\n(run as: {asked})\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
                print(wrong[-1], flush=True)
    finally:
        subprocess.run([sys.executable, "-m", "flows.cli", "down"], cwd=project, env=more, timeout=300)
        end(servers)
    assert not wrong, "\n\n".join(wrong)
