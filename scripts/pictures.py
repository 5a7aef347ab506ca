"""Take the README's pictures of pages: the map of a run, and the heatmaps of a study.

    skiplight train experiment=quickstart evaluation=full run_dir=runs/quickstart && skiplight report runs/quickstart
    skiplight sweep noise.exponent=-0.5,0,0.5,0.75,1 noise.negatives=2,5,15 model.dim=50,100 seed=0,1,2 \
        study.sampler=grid trainer.max_epochs=3 trainer.threads=1 evaluation=full --workers 2 run_dir=runs/noise
    python scripts/pictures.py --map runs/quickstart --heatmap runs/noise

Needs selenium (`pip install -e .[dev]`), and chromium with its chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

FIGURES = Path(__file__).parents[1] / ".github" / "figures"
BOX = """const box = arguments[0].getBoundingClientRect();
return {x: box.x + scrollX - 8, y: box.y + scrollY - 8, width: box.width + 16, height: box.height + 16, scale: 1}"""
"""Where an element lies on the page, with a margin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=Path, metavar="RUN", help="folder of a run with its report.html")
    parser.add_argument("--word", default="physics", help="word whose neighbours the map marks (physics)")
    parser.add_argument("--heatmap", type=Path, metavar="STUDY", help="folder of a study with its report.html")
    given = parser.parse_args()
    if given.map:
        take(given.map, ".atlas", FIGURES / "map.png", width=1240, word=given.word)
    if given.heatmap:
        take(given.heatmap, "#heatmap > .grid", FIGURES / "heatmap.png", width=1240)


def take(folder: Path, part: str, picture: Path, width: int, word: str | None = None) -> None:
    """Write a picture of a part of a folder's page, with two pixels per CSS pixel."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        options.add_argument(f"--user-data-dir={profile}")
        browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            screen = {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
            browser.get((folder / "report.html").resolve().as_uri())
            ready = "return 'ready' in document.documentElement.dataset"
            WebDriverWait(browser, 30).until(lambda it: it.execute_script(ready))
            if word is not None:
                browser.find_element(By.ID, "search").send_keys(word + "\n")
                browser.find_element(By.CSS_SELECTOR, "[aria-label='Show the whole map']").click()
                browser.execute_script("document.activeElement.blur()")
            box = browser.execute_script(BOX, browser.find_element(By.CSS_SELECTOR, part))
            taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": box})
        finally:
            browser.quit()
    picture.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    image.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(picture, optimize=True)  # a third of the size
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
