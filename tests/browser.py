"""Headless Chromium for tests of pages: it tells what went wrong on one, and what the page asked of a network."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WHY_NOT = "needs Chromium with chromedriver (Debian: chromium, chromium-driver) and selenium"


def _selenium():
    if CHROMIUM and DRIVER:
        try:
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
        except ModuleNotFoundError:
            if os.environ.get("CI"):
                pytest.fail("selenium is missing, and under CI nothing that needs it may skip where Chromium is there")
        else:
            return webdriver, Service
    pytest.skip(WHY_NOT)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser; skip where there is none; fail under CI where only selenium is missing."""
    webdriver, Service = _selenium()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """A page in Chromium."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file, in a window of this size."""
        self.driver.get_log("browser"), self.driver.get_log("performance")  # of the page before
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": name, "value": value} for name, value in features.items()]},
        )
        self.driver.get(path.resolve().as_uri())

    def run(self, script: str, *arguments):
        """Return what a function's body returns, called with arguments."""
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        """Wait until what was asked for is drawn: observers and animation frames have had their turns."""
        self.driver.execute_async_script(
            "const done = arguments[0]; let turns = 6;"
            "const turn = () => --turns ? requestAnimationFrame(turn) : setTimeout(done, 30); turn();"
        )

    def show(self, selector: str) -> None:
        """Scroll until the first element of a selector is in the window's middle."""
        self.run(
            "document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", selector
        )
        self.settle()

    def find(self, selector: str):
        """Return the elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """Return the text of the first element of a selector."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def slide(self, level: int) -> None:
        """Move the first gallery's slider as a hand would, to a level."""
        self.run(
            "const slider = document.querySelector('.gallery input[type=range]');"
            "slider.value = arguments[0]; slider.dispatchEvent(new Event('input', {bubbles: true}));",
            level,
        )
        self.settle()

    def complaints(self) -> list[str]:
        """Return what the console holds, and every request but that of the file itself and of what it holds."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url, document = message["params"]["request"]["url"], message["params"]["type"] == "Document"
                if not url.startswith("data:") and not (document and url.startswith("file:")):
                    said.append(f"request of {url}")
        return said

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def pages(self) -> int:
        """Return how many pages of A4 it prints on; what is seen stays as it is printed."""
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
        content = base64.b64decode(printed["data"])
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        return len(re.findall(rb"/Type\s*/Page\b", content))

    def faint_texts(self) -> list[str]:
        """Return texts whose contrast with what they stand on is below WCAG's AA."""
        return self.run(_FAINT)


_FAINT = """
const parse = (color) => { const p = color.match(/[\\d.]+/g).map(Number); return p.length < 4 ? [...p, 1] : p; };
const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3])).concat(1);
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const luminance = (c) => c.slice(0, 3).map((v) => linear(v / 255))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
const faint = [];
for (const element of document.querySelectorAll("body *:not(script):not(style)")) {
  if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!element.checkVisibility() || element.closest(".frame, .skip, title, noscript, option")) continue;
  const style = getComputedStyle(element), svg = element instanceof SVGElement;
  let under = ground(svg ? element.ownerSVGElement.parentElement : element);
  const cell = element.classList.contains("count") && element.parentElement.querySelector(".cell");
  if (cell) { const s = getComputedStyle(cell); under = over([...parse(s.fill).slice(0, 3), +s.fillOpacity], under); }
  const color = over(parse(svg ? style.fill : style.color), under);
  const [a, b] = [luminance(color), luminance(under)], contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) faint.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
}
return faint;
"""
