"""The arrangement of the library: lib/README.md says what may import what, and this is so."""

import ast
import re

import pytest

from lib.identity import file_of, imports
from lib.store import ROOT

PAGE = (ROOT / "lib" / "README.md").read_text()
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "lib").rglob("*.py")
)


def layers() -> dict[str, list[str]]:
    block = re.search(r"```layers\n(.*?)```", PAGE, re.DOTALL)[1]
    return {line.split()[0]: line.split()[1:] for line in block.strip().splitlines()}


def place(module: str) -> int | None:
    """The row of a module; None for the package itself."""
    name = module.removeprefix("lib").removeprefix(".")
    if not name:
        return None
    for row, members in enumerate(layers().values()):
        if name in members or f"{name.split('.')[0]}.*" in members:
            return row
    raise AssertionError(f"lib/README.md gives {module} no place")


def arrows(module: str) -> set[str]:
    own, _ = imports(ast.parse(file_of(module).read_text()))
    return {target for target in own if target not in ("lib", module)}


def test_every_module_has_its_place_and_every_place_its_module():
    assert all(place(module) is not None for module in MODULES if module != "lib")
    named = {name for members in layers().values() for name in members}
    there = {m.removeprefix("lib.") for m in MODULES} | {f"{m.split('.')[1]}.*" for m in MODULES if m.count(".") > 1}
    assert named <= there, named - there


@pytest.mark.parametrize("module", [m for m in MODULES if m != "lib"])
def test_imports_run_upward_in_the_page_only(module):
    wrong = {target for target in arrows(module) if place(target) > place(module)}
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("lib", "lib.__main__")])
def test_only_the_command_line_knows_of_plans_and_of_how_models_were_made(module):
    outer = module.split(".")[1]
    wrong = {t for t in arrows(module) if t.split(".")[1] in ("plan", "desk") and t.split(".")[1] != outer}
    assert not wrong


def test_there_is_no_circle():
    left = {module: arrows(module) for module in MODULES}
    while free := [m for m, targets in left.items() if not targets & set(left)]:
        for module in free:
            del left[module]
    assert not left, f"these import each other: {', '.join(left)}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module):
    assert len(file_of(module).read_text().splitlines()) <= 300


SCRIPTS = sorted((ROOT / "lib" / "web").glob("*.js"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_pages_are_short_ask_no_host_and_write_no_markup(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    # What a model says is set as text. All of these would read it as markup, or run it.
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|unsafeHTML|unsafeSVG|document\.write|\beval\(|new Function|srcdoc"
    assert not re.search(markup, text)
    assert not re.search(r"https?://(?!www\.w3\.org/)|\bfetch\(|XMLHttpRequest|WebSocket", text)


def test_every_script_of_pages_is_used():
    entries = {"demo.js", "explorer.js", "widget.js", "worker.js"}
    used = {name for path in SCRIPTS for name in re.findall(r'from "\./([\w-]+\.js)"', path.read_text())}
    assert used | entries == {path.name for path in SCRIPTS}
