"""A real JupyterLab, and how a test works in it through a browser as people do: menus, keys, what the page shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.browser import Watched, watched
from tests.driver import await_true

# It asks jupyter.org for news, and a new user whether it may.
_SILENT = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
SIZE = {"width": 1400, "height": 1000}


@dataclass(frozen=True)
class Lab:
    """A server of JupyterLab, with a folder as its root."""

    address: str
    root: Path
    token: str  # without it, whoever reaches the port, as any page in a browser here, could run code

    def kernels(self) -> list[dict[str, Any]]:
        """The kernels that run, and what they do; none while the server has no answer, as when one starts."""
        try:
            return json.loads(self._asked("kernels"))
        except urllib.error.HTTPError:
            return []

    @contextmanager
    def opened(self, shown: Browser, notebook: Path) -> Iterator[Watched]:
        """A notebook of the root in a page of its own, with its kernel; both are gone afterwards, whatever happened."""
        seen, where = watched(shown, SIZE), notebook.relative_to(self.root).as_posix()
        try:
            seen.page.goto(f"{self.address}/lab/tree/{where}?reset&token={self.token}")
            seen.page.locator(".jp-Notebook").wait_for(timeout=60_000)
            await_true(lambda: [k for k in self.kernels() if k["execution_state"] == "idle"], 60)
            seen.page.wait_for_timeout(1000)  # the front-end hears of it
            yield seen
        finally:
            seen.page.context.close()
            await_true(self._emptied, 60)

    def run_all(self, page: Page, notebook: Path, seconds: float) -> list[dict[str, Any]]:
        """Run all cells by the menu, save by the keyboard; returns the code cells as they were saved."""
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
        end = time.monotonic() + seconds
        while True:
            page.wait_for_timeout(1500)
            if [kernel["execution_state"] for kernel in self.kernels()] == ["idle"]:
                page.keyboard.press("Control+s")
                page.wait_for_timeout(1500)
                cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
                failed = [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
                if failed or all(c["execution_count"] for c in cells if "".join(c["source"]).strip()):
                    return cells
            assert time.monotonic() < end, f"{notebook.name} is not done after {seconds:g} s"

    def _emptied(self) -> bool:
        """End all kernels; whether there was none."""
        found = self.kernels()
        for kernel in found:
            with suppress(urllib.error.HTTPError):  # it is ending already
                self._asked(f"kernels/{kernel['id']}", "DELETE")
        return not found

    def _asked(self, what: str, how: str = "GET") -> bytes:
        address, known = f"{self.address}/api/{what}", {"Authorization": f"token {self.token}"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=known, method=how)) as answer:
            return answer.read()


@contextmanager
def lab(root: Path, settings: Path) -> Iterator[Lab]:
    """JupyterLab with a root folder, and settings of its own."""
    silent = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    silent.parent.mkdir(parents=True)
    silent.write_text(json.dumps(_SILENT))
    env = os.environ | {"PYTHONPATH": str(root), "JUPYTERLAB_SETTINGS_DIR": str(settings)}
    env |= {"JUPYTER_RUNTIME_DIR": str(settings / "runtime"), "JUPYTERLAB_WORKSPACES_DIR": str(settings / "spaces")}
    options = ["--no-browser", "--port=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    log = settings / "log.txt"
    with log.open("w") as file:
        command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={root}"]
        server = subprocess.Popen(command, cwd=root, env=env, stdout=file, stderr=file)
    try:
        runtime = settings / "runtime"
        await_true(lambda: list(runtime.glob("jpserver-*.json")) or server.poll() is not None, 60)
        assert server.poll() is None, log.read_text()[-2000:]
        found = json.loads(next(runtime.glob("jpserver-*.json")).read_text())
        yield Lab(f"http://localhost:{found['port']}", root, found["token"])
    finally:
        server.terminate()
        server.wait(20)
