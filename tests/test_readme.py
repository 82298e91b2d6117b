"""README.md and docs/: what they point to exists. And no module imports one that imports it.

    python -m pytest tests/test_readme.py

Files are parsed, not imported.
"""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def names(file: Path) -> set[str]:
    """Functions and classes of a module, and methods of its classes."""
    parsed = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in parsed if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_pointers_of_the_readme_name_what_their_files_define():
    pointers = re.findall(r"`([\w/]+\.py):(\w+)`", README.read_text(encoding="utf-8"))
    assert len(pointers) >= 20
    assert not [(file, name) for file, name in pointers if name not in names(ROOT / file)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_files_that_a_page_names_exist(page):
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.py)[:`]", page.read_text(encoding="utf-8")))
    assert not [file for file in named if not (ROOT / file).is_file()]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_relative_link_leads_to_a_file_and_a_heading_of_it(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def imports() -> dict[str, set[str]]:
    """{module: the modules of this repository that it imports, anywhere in its code}."""
    files = [*ROOT.glob("*.py"), *ROOT.glob("tools/**/*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    edges = {module: set() for module in modules}
    for module, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                edges[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                edges[module] |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return {module: imported & modules.keys() for module, imported in edges.items()}


def test_no_module_imports_one_that_imports_it():
    edges = imports()
    assert "e5nl" in edges["trim_vocab"]
    graphlib.TopologicalSorter(edges).prepare()  # raises CycleError
