"""The routes of ``kedro search --serve``, and the headers that keep a page from running what it shows."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multimodal_recall.commands.errors import is_for_users, name_environment
from multimodal_recall.commands.products import SearchError
from multimodal_recall.commands.serve.pages import describe_found, render_file, render_search, render_why
from multimodal_recall.commands.serve.shop import Shop
from multimodal_recall.commands.serve.wanted import (
    RequestError,
    Wanted,
    keep_readable,
    read_explained,
    read_id,
    read_query,
    read_wanted,
)
from multimodal_recall.evaluation.report.drawings import read_small
from multimodal_recall.runtime.cores import usable_cores

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer: no code or style but our own files, nothing from another host, in no frame of another page."""
KEPT_PHOTOS = 1000
"""Small photos that are kept in memory, of some 15 kB each."""
PHOTO_SECONDS = 3600
CLIENT_GONE = 499
"""Code of an answer that nobody waits for, as nginx has it."""
REFUSED = (RequestError, SearchError, HTTPException)
"""Errors of a request; any other error is the program's."""


class WithHeaders:
    """Add ``HEADERS`` to every answer of an application, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class OwnPagesAlone:
    """Refuse what a page of another site asks for, before anything is computed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and asked_by_another_site(Headers(scope=scope)):
            answer = JSONResponse({"error": "pages of other sites get no answer: open the address itself"}, 403)
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def asked_by_another_site(headers: Headers) -> bool:
    """Whether a page of another site, or of another port of this machine, has sent a request by itself.

    Browsers say so in ``Sec-Fetch-Site``, or to another machine than their own without TLS in ``Origin`` alone. A link
    that a user follows to a whole page is none.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return True
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not followed and headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


class Pages:
    """The handlers of the routes; what computes runs in a few threads, so that small files never wait for a search."""

    def __init__(self, shop: Shop, start: Wanted, threads: ThreadPoolExecutor) -> None:
        self.shop, self.start, self.threads = shop, start, threads
        self.free_threads = asyncio.Semaphore(usable_cores())
        self.small_photo = functools.lru_cache(KEPT_PHOTOS)(read_small)

    async def compute(self, request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in one of the threads, unless the client has gone before a thread was free.

        Else a page that is loaded again and again would keep others waiting for searches that nobody sees.

        Raises:
            HTTPException: 499 if the client has gone; 500 with the text of an error that is for users, such as a model
                of another version of the code; 503 if the server ends meanwhile.
        """
        try:
            async with self.free_threads:
                if await request.is_disconnected():
                    raise HTTPException(CLIENT_GONE, "the client has gone")
                return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
        except asyncio.CancelledError:  # by uvicorn after Ctrl-C; it would log a traceback
            raise HTTPException(503, "the server has been ended") from None
        except (RequestError, SearchError):
            raise
        except Exception as error:
            if is_for_users(error):
                raise HTTPException(500, str(error)) from error
            raise

    def wanted(self, given: QueryParams) -> Wanted:
        """Read what a request asks for."""
        return read_wanted(given, self.start, self.shop.choices)

    async def page(self, request: Request) -> Response:
        """Show the form and what was found."""
        wanted = self.wanted(request.query_params)
        return HTMLResponse(await self.compute(request, render_search, self.shop, wanted))

    async def search(self, request: Request) -> Response:
        """Give what was found as JSON."""
        wanted = read_query(self.wanted(request.query_params))
        return JSONResponse(await self.compute(request, describe_found, self.shop, wanted))

    async def why(self, request: Request) -> Response:
        """Show what each word adds to a product's score."""
        given = request.query_params
        wanted = read_query(self.wanted(given))
        explained = read_explained(given, wanted, self.shop.choices)
        product_id = read_id(given.get("product", ""))
        return HTMLResponse(await self.compute(request, render_why, self.shop, wanted, explained, product_id))

    async def photo(self, request: Request) -> Response:
        """Give a product's photo, scaled down."""
        path = self.shop.photo(read_id(request.path_params["product"]))
        small = None if path is None else await self.compute(request, self.small_photo, path)
        if small is None:
            raise HTTPException(404, "there is no such photo")
        kind, content = small
        headers = {"Cache-Control": f"private, max-age={PHOTO_SECONDS}"}
        return Response(content, media_type=f"image/{kind}", headers=headers)

    async def health(self, request: Request) -> Response:
        """Give what is served as JSON."""
        del request
        rankers = {name: choice.facts() for name, choice in self.shop.choices.items()}
        products = {"split": self.shop.products.split, "products": len(self.shop.served)}
        loaded = sorted(self.shop.searchers)
        return JSONResponse({"status": "ok", **products, "loaded": loaded, "rankers": rankers})

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Say what is wrong with a request, in the form that it asks for, which keeps what was chosen."""
        status, text, headers = 400, str(error), None
        if isinstance(error, HTTPException):
            status, text, headers = error.status_code, error.detail, error.headers
        elif not isinstance(error, REFUSED):
            status, text = 500, f"{type(error).__name__}: a fault of the program. Its terminal shows the traceback"
        text = name_environment(text)
        if request.url.path in ("/", "/why"):
            shown = keep_readable(request.query_params, self.start, self.shop.choices)
            return HTMLResponse(render_search(self.shop, shown, text), status, headers)
        return JSONResponse({"error": text}, status, headers)


def _file(template: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def give(request: Request) -> Response:
        del request
        return Response(render_file(template), media_type=media_type)

    return give


def make_app(shop: Shop, start: Wanted, hosts: Sequence[str] = ("*",)) -> ASGIApp:
    """Build the application.

    Args:
        shop: What is served.
        start: What the page starts with.
        hosts: Names under which the server may be asked; ``*``: any. A page of another host, whose name leads here,
            then gets no answer (DNS rebinding).
    """
    threads = ThreadPoolExecutor(usable_cores(), thread_name_prefix="search")
    pages = Pages(shop, start, threads)

    @asynccontextmanager
    async def end_threads(app: Starlette) -> AsyncIterator[None]:
        del app
        yield
        threads.shutdown(wait=False, cancel_futures=True)

    routes = {
        "/": pages.page,
        "/search": pages.search,
        "/why": pages.why,
        "/photos/{product}": pages.photo,
        "/healthz": pages.health,
        "/style.css": _file("serve.css.j2", "text/css"),
        "/page.js": _file("page.js.j2", "text/javascript"),
    }
    named = Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    return WithHeaders(
        Starlette(
            routes=[Route(path, handler) for path, handler in routes.items()],
            middleware=[named, Middleware(OwnPagesAlone)],
            exception_handlers=dict.fromkeys((*REFUSED, Exception), pages.refuse),
            lifespan=end_threads,
        )
    )
