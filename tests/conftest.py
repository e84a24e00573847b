"""Fixtures of the page tests: the built book, served, and a browser. And no test is a stopwatch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
    from playwright.sync_api import sync_playwright

    from page_tools import launch

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()
