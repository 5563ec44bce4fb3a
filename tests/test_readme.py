"""The README's examples, run as they stand: the transcript line by line (numbers masked), then the Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RunPython = Callable[[list[str], Path], str]
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


def test_transcript_and_python_example(demo_examples: Path, run_python: RunPython) -> None:
    (demo_examples / "notes.db").unlink()  # the README begins without it
    steps = _transcript()
    assert len(steps) >= 3
    for command, expected in steps:
        program, *words = shlex.split(command)
        assert program == "edge_embed"
        output = run_python(["-m", "edge_embed", *words], demo_examples)
        assert _masked(output) == _masked(expected), command

    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 3
    for example, answer in zip(examples, ("(384,)", "[[0.", "[1] Bicycle > Flat tyre"), strict=True):
        assert answer in run_python(["-c", example], demo_examples)


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
