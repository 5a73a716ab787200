"""Open a port, and answer there until Ctrl-C."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

if TYPE_CHECKING:  # of the extra `serve`
    import uvicorn
    from starlette.types import ASGIApp

    from multimodal_recall.commands.serve.shop import Shop
    from multimodal_recall.commands.serve.wanted import Wanted

NEEDED = ("starlette", "uvicorn")
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
GRACE = 3
"""Seconds in which answers that are under way may end after Ctrl-C."""


class ServeError(Exception):
    """A package is missing, the port is taken, or an option does not fit the pages."""


def listen(host: str, port: int) -> socket.socket:
    """Take a port, before anything is loaded; browsers that come now wait for the first answer.

    Raises:
        ServeError: If a package of the extra ``serve`` is missing, the host is empty, or the port cannot be had.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ServeError(f'--serve needs {" and ".join(missing)}: pip install -e ".[serve]"')
    if not host:  # the system would take all addresses, as for 0.0.0.0
        raise ServeError("--host is empty: name an address of this machine, such as 127.0.0.1")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, TypeError) as error:  # TypeError: a name such as "é..b", which cannot be encoded
        reason = getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (while ")[0]  # os.strerror does not know the numbers of unknown hosts
        raise ServeError(
            f"cannot listen on port {port} of {host}: {reason}. Name another with --port or --host"
        ) from error


def serve(listening: socket.socket, host: str, shop: "Shop", start: "Wanted", queries: Sequence[str]) -> None:
    """Answer requests until Ctrl-C; print the address of the page, or of a page for each query.

    Args:
        listening: Of ``listen``.
        host: As given to ``listen``.
        shop: What is served.
        start: What the page starts with.
        queries: Texts whose pages are named.

    Raises:
        RequestError: If a query is too long.
        SearchError: If a query is empty or not UTF-8.
    """
    import uvicorn

    from multimodal_recall.commands.serve.app import make_app
    from multimodal_recall.commands.serve.wanted import read_text

    address, port = listening.getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    searcher = shop.searcher(start.ranker)
    for query in queries:
        searcher.clean(read_text(query))
    click.echo(searcher.source())
    for query in queries or [""]:
        click.echo(f"http://{name}:{port}/" + (f"?{urlencode({'q': query})}" if query else ""))
    click.echo("end with Ctrl-C")
    app = make_app(shop, start, allowed_hosts(host, address))
    with suppress(KeyboardInterrupt):  # uvicorn has ended, and passes the signal on
        uvicorn.Server(configure(app)).run(sockets=[listening])
    click.echo("ended")


def configure(app: "ASGIApp") -> "uvicorn.Config":
    """Set up uvicorn: quiet, and with h11, which refuses addresses and headers beyond 64 kB.

    httptools, which uvicorn takes where it is installed, reads headers of any size into memory.
    """
    import uvicorn

    return uvicorn.Config(
        app,
        http="h11",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def allowed_hosts(host: str, address: str) -> list[str]:
    """List the names under which a server may be asked that listens on the address of a host; on all addresses: any."""
    if ip_address(address).is_unspecified:
        return ["*"]
    return [*OWN_NAMES, host, f"[{address}]" if ":" in address else address]
