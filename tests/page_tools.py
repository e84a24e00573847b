"""What the page tests stand on: the built book on 127.0.0.1, a browser that reaches nothing else, what it noticed."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, Response

ROOT = Path(__file__).resolve().parents[1]
HTML = Path(os.environ.get("GENTEXT_BOOK_HTML") or ROOT / "_build" / "html").resolve()
# Quiet flags: no calls home. The resolver rule leaves this machine as the only host there is.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def page_names() -> list[str]:
    """Addresses of all pages below the book's root; only the first page where nothing is built yet."""
    names = (path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    return sorted(name for name in names if not name.startswith("_")) or ["index.html"]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1; yields the address of its root."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def launch(playwright: Playwright) -> Browser:
    """The machine's Chromium where there is one, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return playwright.chromium.launch(executable_path=found, args=FLAGS)


@dataclass
class Visit:
    """One open page and everything about it that could be wrong."""

    page: Page
    base: str
    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions
    failed: list[str] = field(default_factory=list)  # requests without an answer, or with a status of 400 and above
    outside: list[str] = field(default_factory=list)  # requests for another host
    responses: list[Response] = field(default_factory=list)

    def watch(self) -> None:
        page = self.page
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}"))
        page.on("response", self._answered)
        page.route(lambda url: not url.startswith(self.base), self._refuse)

    def _answered(self, response: Response) -> None:
        self.responses.append(response)
        if response.status >= 400:
            self.failed.append(f"{response.url}: {response.status}")

    def _refuse(self, route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def script_bytes(self) -> dict[str, int]:
        """Uncompressed size of every script that was fetched, and of those written into the page."""
        sizes = {
            urlsplit(response.url).path: len(response.body())
            for response in self.responses
            if response.request.resource_type == "script"
        }
        # A script with a type of data (JSON of a plot) is not run.
        sizes["(in the page)"] = self.page.evaluate(
            """() => [...document.scripts].filter(s => !s.src && !/json|config/.test(s.type))
                     .reduce((sum, s) => sum + s.textContent.length, 0)"""
        )
        return sizes

    def read_through(self) -> None:
        """Scroll from top to bottom as a reader does, so that figures start, and wait until they stand."""
        page = self.page
        height = page.evaluate("document.documentElement.scrollHeight")
        for top in [*range(0, height, 500), 0]:
            page.evaluate(f"window.scrollTo({{ top: {top}, behavior: 'instant' }})")
            page.wait_for_timeout(20)
        page.wait_for_function(
            """() => [...document.querySelectorAll('.gentext-live[data-model="published"]')]
                     .every(figure => figure.dataset.state !== 'poster')""",
            timeout=60_000,
        )
        page.wait_for_load_state("networkidle")


@contextlib.contextmanager
def visit(browser: Browser, base: str, name: str, *, width: int = 1200, script: str = "") -> Iterator[Visit]:
    """Open a page of the book in a fresh context, with `script` run before its own, and read through it."""
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme="light", reduced_motion="reduce")
    try:
        seen = Visit(context.new_page(), base)
        seen.watch()
        seen.page.add_init_script(script)
        seen.page.goto(urljoin(base, name), wait_until="load")
        seen.read_through()
        yield seen
    finally:
        context.close()


def serious(page: Page, context: dict | None = None) -> list[str]:
    """What axe calls serious or critical, a line each."""
    # `preload` would fetch style sheets a second time and report the answers as failed requests.
    options = {"preload": False, "resultTypes": ["violations"]}
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [
        f"{finding['id']}: {finding['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


class Document(HTMLParser):
    """Ids, links and fetched addresses of one page, read without a browser."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and "href" in found:
            self.fetched.append(found["href"])
        if "src" in found:
            self.fetched.append(found["src"])


def broken(name: str, address: str, documents: dict[str, Document]) -> str | None:
    """Why an internal address on page `name` leads nowhere; None where it leads somewhere or out of the book."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = unquote(urlsplit(urljoin(name, parts.path)).path) if parts.path else name
    if not (HTML / target).is_file():
        return f"{address}: there is no file {target}"
    if parts.fragment and target in documents and unquote(parts.fragment) not in documents[target].ids:
        return f"{address}: {target} has no place called {parts.fragment}"
    return None
