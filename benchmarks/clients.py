"""Clients of a running `gpt serve`, some of which read slowly: requests, errors and the server's memory.

gpt serve & python -m benchmarks.clients $! --model shakespeare --clients 50 --minutes 10
"""

import argparse
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter

import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("process", type=int, help="id of the server's process")
    parser.add_argument("--address", default="http://127.0.0.1:8080")
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    server, found = psutil.Process(given.process), Counter()
    until = time.monotonic() + 60 * given.minutes
    before = server.memory_info().rss

    def client(number: int) -> None:
        while time.monotonic() < until:
            body = {"model": given.model, "prompt": "", "max_tokens": 50, "seed": number, "stream": True}
            request = urllib.request.Request(f"{given.address}/v1/completions", json.dumps(body).encode())
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
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
    print(json.dumps({"requests": dict(found), "memory_mb": {name: size // 10**6 for name, size in sizes.items()}}))


if __name__ == "__main__":
    main()
