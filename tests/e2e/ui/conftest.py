"""One browser and one service for all tests of the pages; each test has a profile of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from deploylog.store import open_store
from support.backends import store_url_at
from support.browser import new_tab, problems_of, running_browser
from support.factories import Commits
from support.servers import Local, running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    """A service without authentication."""
    url = store_url_at(tmp_path_factory.mktemp("site") / "log.db")
    async with open_store(url, observer=Commits()) as store, running(store) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, site: Local) -> AsyncIterator[Page]:
    """A tab that shows the service, and in which nothing may go wrong."""
    async with new_tab(browser, site.url) as page:
        yield page
        assert problems_of(page) == []
