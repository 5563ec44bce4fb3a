"""The documentation: every page is in the site, and every message it explains is one of the program's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCES = ("edge_embed", "converters", "training")


def _texts(node: ast.AST) -> str:
    """Returns a string expression's text, with … where a value is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_texts(part) for part in node.values)
    return "…"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(
        re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert listed == {page.name for page in DOCS.glob("*.md")}


def test_explained_messages_are_messages_of_the_program() -> None:
    said = [
        _texts(node)
        for package in SOURCES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Constant, ast.JoinedStr))
    ]
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (`.+`)$", page, re.MULTILINE)
    explained = [message for heading in headings for message in re.findall("`([^`]+)`", heading)]
    assert len(explained) > 10
    unknown = [message for message in explained if not any(message in text for text in said)]
    assert not unknown


def test_a_change_touches_three_files_of_its_room_at_most() -> None:
    """The table of CONTRIBUTING.md names rooms and files that exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = (
        text.split("## Where a change goes")[1]
        .split("## ")[0]
        .split("|---|---|---|\n")[1]
        .strip()
        .splitlines()
    )
    assert len(rows) > 10
    for row in rows:
        change, room, files = (cell.strip() for cell in row.strip("|").split("|"))
        folder = ROOT / "".join(re.findall("`(.+)`", room))
        assert folder.is_dir(), change
        places = re.findall("`([^`]+[./][^`]*)`", files)
        missing = [place for place in places if not place.startswith(".") and not _found(folder, place)]
        assert not missing, change
        named = [place for place in places if Path(place).suffix in (".py", ".kt", ".toml")]
        assert 1 <= len(named) + files.count("a new file") <= 3, change


def _found(folder: Path, place: str) -> bool:
    return (folder / place).exists() or (ROOT / place).exists()


def test_the_table_of_families_shows_what_was_measured() -> None:
    report = (ROOT / "benchmarks" / "results" / "families.md").read_text(encoding="utf-8")
    rows = [line for line in report.splitlines() if line.startswith("| ")]
    page = (DOCS / "converting.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 3
    assert not [row for row in rows if row not in page]


def test_no_document_holds_a_placeholder() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "android_demo").glob("*.md")]
    placeholder = re.compile(r"\b(?:PEAK|ANON|TBD|TODO|FIXME|XXX|N/A)\d*\b|\?\?\?|\{\{|<<[A-Z]|lorem ipsum")
    found = {
        f"{page.name}: {match.group()}"
        for page in pages
        for match in placeholder.finditer(page.read_text(encoding="utf-8"))
    }
    assert not found
