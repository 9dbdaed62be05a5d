"""Clients of a running `gpt serve`: tokens a second for 1, 4 and 16 of them; then a soak, in which four of five read slowly:
requests, errors and the server's memory.

gpt serve & python -m benchmarks.clients $! --model shakespeare --clients 50 --minutes 10
"""

import argparse
import json
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import psutil

ROUNDS = 3  # of each number of clients; the median counts
TOKENS = 200  # of an answer, unless the model ends it


def rate(ask: Callable[[int], int], clients: int) -> float:
    """Tokens a second, all clients together. ask: returns the tokens of an answer."""
    found = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            tokens = sum(pool.map(ask, range(number * clients, (number + 1) * clients)))
        found.append(tokens / (time.perf_counter() - start))
    return round(statistics.median(found), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("process", type=int, help="id of the server's process")
    parser.add_argument("--address", default="http://127.0.0.1:8080")
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    server, found = psutil.Process(given.process), Counter()
    before = server.memory_info().rss

    def post(**more: object) -> HTTPResponse:
        body = {"model": given.model, "prompt": ""} | more
        request = urllib.request.Request(f"{given.address}/v1/completions", json.dumps(body).encode())
        return urllib.request.urlopen(request, timeout=120)

    def ask(number: int) -> int:
        with post(max_tokens=TOKENS, seed=number) as answer:
            return json.load(answer)["usage"]["completion_tokens"]

    ask(0)  # loads the model
    rates = {clients: rate(ask, clients) for clients in (1, 4, 16)}
    until = time.monotonic() + 60 * given.minutes

    def client(number: int) -> None:
        while time.monotonic() < until:
            try:
                with post(max_tokens=50, seed=number, stream=True) as answer:
                    for _ in answer:
                        time.sleep(0.02 * (number % 5))  # four of five read slowly
                found["answered"] += 1
            except urllib.error.HTTPError as error:
                found[f"status {error.code}"] += 1
                time.sleep(0.5)
            except OSError as error:
                found[type(error).__name__] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(given.clients)]
    for thread in threads:
        thread.start()
    peak = before
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, server.memory_info().rss)
        time.sleep(0.5)
    sizes = {"start": before, "peak": peak, "end": server.memory_info().rss}
    memory = {name: size // 10**6 for name, size in sizes.items()}
    print(json.dumps({"tokens_per_second": rates, "requests": dict(found), "memory_mb": memory}))


if __name__ == "__main__":
    main()
