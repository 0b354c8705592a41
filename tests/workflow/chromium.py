"""A browser without a window; ``python -m tests.workflow.chromium`` installs it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag
from uuid import uuid4

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.debian import install

#: The programs that are needed, and Debian's packages that they come from.
PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}
DESKTOP, NARROW = (1280, 900), (390, 844)


def missing_packages() -> list[str]:
    """Packages of the programs that are not there."""
    return [package for name, package in PACKAGES.items() if shutil.which(name) is None]


class Browser:
    """A page in Chromium, and what it asked for and complained of."""

    def __init__(self, driver: Chrome):
        self.driver = driver

    def open(self, path: Path, fragment: str = "", size: tuple[int, int] = DESKTOP) -> None:
        """Open a file, as new."""
        self.driver.get("about:blank")
        self.complaints()
        self.resize(size)
        self.driver.get(f"{path.as_uri()}{fragment}")
        # The driver at times takes the blank page, which was loaded already, for this one.
        WebDriverWait(self.driver, 60).until(lambda _: self._shows(path))

    def _shows(self, path: Path) -> bool:
        """Whether a file is loaded, and says of nothing that it is still at work."""
        here, state, busy = self.run(
            "return [location.href, document.readyState, !!document.querySelector('[aria-busy=true]')]"
        )
        return urldefrag(here).url == path.as_uri() and state == "complete" and not busy

    def resize(self, size: tuple[int, int]) -> None:
        """Give the page itself a size, which may be narrower than any window."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def complaints(self) -> list[str]:
        """What the page said on the console, and what it requested beside itself, since this was last asked."""
        said = self._console()
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        here = {urldefrag(self.driver.current_url).url, "about:blank"}
        return said + [url[:100] for url in requests if urldefrag(url).url not in here and not url.startswith("data:")]

    def _console(self) -> list[str]:
        """The console so far. A busy browser tells late, but in order: a last word of our own says that all is there."""
        last_word = f"nothing more to say: {uuid4()}"
        self.run("console.debug(arguments[0])", last_word)
        said: list[str] = []

        def all_is_said(driver: Chrome) -> bool:
            said.extend(entry["message"] for entry in driver.get_log("browser"))
            return any(last_word in message for message in said)

        WebDriverWait(self.driver, 60, poll_frequency=0.01).until(all_is_said, "the browser's console does not answer")
        return [message for message in said if last_word not in message]

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def photograph(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.run("return [innerWidth, innerHeight]")
        self.resize((size[0], self.run("return document.documentElement.scrollHeight")))
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
        self.resize(size)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that keeps nothing."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


if __name__ == "__main__":
    install("A test of the pages", missing_packages)
