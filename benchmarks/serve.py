"""Load ``kedro search --serve``: requests a second, how long an answer takes, and whether any is lost or mixed up.

python -m benchmarks.serve --seconds 60

Starts the server of the project that it is called in, on a free port, after ``kedro run`` and
``kedro run --pipelines=index``. Each client is a thread with a connection of its own, which asks again as soon as it
has an answer. An answer counts as lost if it does not come, is no 200, or is not about the query that was asked.
Clients and server share the machine.
"""

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import numpy as np

COLOURS = ("red", "blue", "green", "black", "white", "pink")
MATERIALS = ("leather", "cotton", "wool", "plastic")
NOUNS = ("boots", "dress", "shoes", "shirt", "handbag", "jeans", "hat", "doll")
QUERIES = [" ".join(words) for words in itertools.product(COLOURS, MATERIALS, NOUNS)]
TIMEOUT = 60  # seconds


@contextmanager
def started(options: list[str]) -> Iterator[str]:
    """Start the server and give its address, ``127.0.0.1:port``; end it as Ctrl-C does."""
    command = [sys.executable, "-m", "kedro", "search", "--serve", "--port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        address = next((line for line in lines if line.startswith("http")), None)
        if address is None:
            raise SystemExit("the server did not start: see above")
        yield urlsplit(address.strip()).netloc
    finally:
        process.send_signal(2)
        process.wait(TIMEOUT)


def ask(connection: http.client.HTTPConnection, query: str, top: int) -> bool:
    """Ask for the products of a query; whether the answer is whole and about this query."""
    try:
        connection.request("GET", f"/search?{urlencode({'q': query, 'top': top})}")
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    if answer.status != 200:
        return False
    found = json.loads(content)
    return found["query"] == query and len(found["products"]) == top


def run_client(address: str, number: int, end: float, top: int) -> list[tuple[float, bool]]:
    """Ask until a time; for each request its milliseconds, and whether it was answered."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    asked = []
    for query in itertools.islice(itertools.cycle(QUERIES), 7 * number, None):
        start = time.perf_counter()
        if start >= end:
            return asked
        answered = ask(connection, query, top)
        asked.append((1e3 * (time.perf_counter() - start), answered))
    return asked


def measure(address: str, clients: int, seconds: float, top: int) -> dict[str, float]:
    """Load the server with some clients."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        runs = [threads.submit(run_client, address, number, start + seconds, top) for number in range(clients)]
        asked = [request for run in runs for request in run.result()]
    took = time.perf_counter() - start
    times = np.array([milliseconds for milliseconds, _ in asked])
    lost = sum(not answered for _, answered in asked)
    p50, p95, worst = np.quantile(times, [0.5, 0.95, 1])
    figures = (len(asked), lost, len(asked) / took, p50, p95, worst)
    return dict(zip(("requests", "lost", "requests/s", "ms, 50 %", "ms, 95 %", "ms, most"), figures, strict=True))


def main() -> None:
    """Print a line for each number of clients."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--env")
    arguments.add_argument("--ranker")
    arguments.add_argument("--clients", nargs="+", type=int, default=[1, 8])
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--top", type=int, default=10)
    options = arguments.parse_args()
    given = [f"--{name}={value}" for name in ("env", "ranker") if (value := getattr(options, name))]
    with started(given) as address:
        measure(address, 1, 1, options.top)  # not counted
        for number, clients in enumerate(options.clients):
            figures = measure(address, clients, options.seconds, options.top)
            if number == 0:
                print(f"{'clients':>8}" + "".join(f" {name:>10}" for name in figures))
            print(f"{clients:8}" + "".join(f" {figure:10,.1f}" for figure in figures.values()), flush=True)


if __name__ == "__main__":
    main()
