"""Fixtures of the browser tests: a browser, and pages for it to open. And no test is a stopwatch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from live_tools import Site

pytest.register_assert_rewrite("live_tools")  # its assertions say what they saw
settings.register_profile("gentext", deadline=None)
settings.load_profile("gentext")


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The address of the built book. Building it is the Makefile's business."""
    from page_tools import HTML, serve

    if not (HTML / "index.html").is_file():
        pytest.fail("There is no built book in _build/html: run `make book SERVE=0`, or name one in GENTEXT_BOOK_HTML.")
    with serve(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. One for each test module: two of Playwright's drivers cannot run side by side in one process."""
    from playwright.sync_api import Error, sync_playwright

    from page_tools import launch

    with sync_playwright() as playwright:
        try:
            chromium = launch(playwright)
        except Error as error:
            pytest.fail(f"No Chromium runs here; `make browser` fetches one. {error}")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A served page for each of the module's `figures`, {figure's class: contents}, and an empty one, kernel.html."""
    from live_tools import Site, lay_out
    from page_tools import serve

    root = tmp_path_factory.mktemp("site")
    lay_out(root, request.getfixturevalue("figures"))
    with serve(root) as address:
        yield Site(root, address)


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens a page of `site` as `live_tools.watched` does; what is wrong with it is told at the test's end."""
    from live_tools import watched

    with contextlib.ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(watched(browser, urljoin(site.address, path), **options))
