"""The golden indexes are what Python searches today; JUnit asserts the same of the Kotlin core."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from edge_embed.retrieval.search.function_words import FUNCTION_WORDS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
KOTLIN = ROOT / "android_demo/app/src/main/kotlin/edgeembed/core/FunctionWords.kt"


@pytest.fixture(scope="module")
def make_index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_index", GOLDEN / "make_index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_still_finds_the_same_in_the_golden_indexes(make_index, tmp_path):
    for lexical in make_index.LEXICAL:
        shutil.copy(GOLDEN / f"index.{lexical}.db", tmp_path)
    kept = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))
    made = json.loads(json.dumps(make_index.golden(tmp_path)))
    assert made["vectors"] == kept["vectors"]
    for lexical in make_index.LEXICAL:
        for ours, theirs in zip(made["answers"][lexical], kept["answers"][lexical], strict=True):
            assert _same(ours, theirs), (
                f"another answer: {ours}; if that was meant, run python tests/golden/make_index.py"
            )


def _same(made, kept):
    if isinstance(made, dict):
        return list(made) == list(kept) and all(_same(made[key], kept[key]) for key in made)
    if isinstance(made, list):
        return len(made) == len(kept) and all(map(_same, made, kept))
    if isinstance(made, float) and isinstance(kept, float):
        return abs(made - kept) < 1e-6  # BLAS sums in an order of its own on each machine
    return made == kept


def test_kotlin_has_the_same_function_words():
    listed = re.search(r'"""(.*?)"""', KOTLIN.read_text(encoding="utf-8"), re.DOTALL)
    assert listed
    assert set(listed.group(1).split()) == FUNCTION_WORDS
