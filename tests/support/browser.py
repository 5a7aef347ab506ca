"""Chromium without a window, for tests that look at pages as people do."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

REQUIRED = "SKIPLIGHT_TEST_BROWSER"
"""With this variable set, tests of pages fail where there is no Chromium, instead of being left out."""

READY = "return 'ready' in document.documentElement.dataset"


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own; skips the test where none is installed."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (binary and driver):
        say = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        say("no chromium with its chromedriver: `apt-get install chromium chromium-driver` to test pages in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for argument in (
            "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
            "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={profile}",
        ):  # fmt: skip
            options.add_argument(f"--{argument}")
        browser = webdriver.Chrome(options, Service(driver))
        try:
            yield browser
        finally:
            browser.quit()


def resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    """Gives the page a screen of so many pixels, a phone's where it is narrow."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def prefer(browser: webdriver.Chrome, colours: str = "light", medium: str = "") -> None:
    """Makes the system's colours dark or light, and the page one on a screen or in print; nothing moves slowly."""
    wishes = {"prefers-color-scheme": colours, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})


def visit(browser: webdriver.Chrome, page: Path) -> None:
    """Opens a page from the disk and waits until it is drawn."""
    browser.get(page.resolve().as_uri())
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda it: it.execute_script(READY))


def complaints(browser: webdriver.Chrome) -> list[Any]:
    """What the console has said since it was last asked."""
    return browser.get_log("browser")
