"""A user at a real browser."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.visitor import PASSWORDS

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = Path("/usr/bin/chromium")
WIDTHS = (360, 600, 768, 800, 1024, 1200, 1280, 1920)


@dataclass
class BrowserUser:
    """A user at a browser. Any error of the browser fails the test."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    clicks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        """Note errors and warnings: also what could not be loaded, not what a page was loading when it was left."""
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def sign_in(self, name: str) -> None:
        self.page.goto(f"{self.url}/ops/")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORDS[name])
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/ops/")

    def click(self, role: str, name: str | re.Pattern[str]) -> None:
        self.clicks.append(str(getattr(name, "pattern", name)))
        self.page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]  # one of ARIA's names

    def sees(self, words: str) -> bool:
        return words in self.page.locator("main").inner_text()

    def is_as_wide_as_its_page(self) -> bool:
        width = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        return bool(width[0] <= width[1])


@contextmanager
def person(browser: Browser, url: str, **options: object) -> Iterator[BrowserUser]:
    """Open a browser of its own; scripts are off, because the console must work without."""
    context = browser.new_context(**{"java_script_enabled": False, **options})  # type: ignore[arg-type]
    user = BrowserUser(context.new_page(), url)
    yield user
    context.close()
    if user.complaints:
        raise AssertionError("the browser reports:\n" + "\n".join(user.complaints))
