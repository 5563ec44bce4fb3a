"""The README's examples, run as they stand: the transcript line by line (numbers masked), then the Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[-+]?\d[\d,.]*(e[-+]?\d+)?")


def _transcript() -> list[tuple[str, str]]:
    """Returns (command, output) pairs of the blocks that the README marks as transcripts."""
    blocks = re.findall(r"<!-- transcript.*?-->\n```console\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    steps = [step for block in blocks for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    pairs = [step.partition("\n") for step in steps]
    return [(command, output) for command, _, output in pairs]


def _masked(text: str) -> list[str]:
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines() if line.strip()]


def _run(arguments: list[str], directory: Path) -> str:
    paths = [str(ROOT), str(ROOT / "converters"), str(ROOT / "benchmarks")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' directory as `make demo` leaves it."""
    directory = tmp_path_factory.mktemp("readme") / "examples"
    ours = shutil.ignore_patterns("*.tflite", "all-MiniLM-L6-v2", "*.npy", "notes.db*")
    shutil.copytree(ROOT / "examples", directory, ignore=ours)
    printed = _run(["demo.py"], directory)
    assert "passed" in printed
    assert "Mars looks red" in printed
    assert "notes/flat.md, characters 0 to" in printed
    (directory / "notes.db").unlink()  # the README begins without it
    return directory


def test_transcript_and_python_example(workplace: Path) -> None:
    steps = _transcript()
    assert len(steps) >= 3
    for command, expected in steps:
        program, *words = shlex.split(command)
        assert program == "edge_embed"
        output = _run(["-m", "edge_embed", *words], workplace)
        assert _masked(output) == _masked(expected), command

    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    for example, answer in zip(examples, ("[[0.", "[1] Bicycle > Flat tyre"), strict=True):
        assert answer in _run(["-c", example], workplace)


def test_results_are_those_on_file() -> None:
    table = README[README.index("<!-- results -->") : README.index("## What you get")]
    published = "".join(
        p.read_text(encoding="utf-8") for p in sorted((ROOT / "benchmarks/results").glob("*.md"))
    )
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert rows
    for row in rows:
        for figure in re.findall(r"\d+\.\d+", row):
            assert figure in published, f"{figure} of {row!r} is in no published result"
