"""The golden files are what the Python runtime gives today; JUnit asserts the same of the Kotlin core."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_embed.errors import ManifestError
from edge_embed.model_file.manifest import decode_vector
from edge_embed_bench.records import record

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    return _script("make_golden")


def test_golden_files_are_what_the_runtime_gives(golden):
    stale = [
        name
        for name, content in golden.golden_files().items()
        if not _same(json.loads(content), json.loads((GOLDEN / name).read_bytes()))
    ]
    assert not stale, "the runtime changed; if that was meant, run python tests/golden/make_golden.py"


def _same(made, kept):
    if isinstance(made, dict) and isinstance(kept, dict):
        return list(made) == list(kept) and all(_same(made[key], kept[key]) for key in made)
    if isinstance(made, list) and isinstance(kept, list):
        return len(made) == len(kept) and all(map(_same, made, kept))
    if isinstance(made, str) and isinstance(kept, str) and made != kept:
        # Sums come out of BLAS, whose last bit depends on the machine.
        try:
            return np.allclose(decode_vector(made), decode_vector(kept), rtol=0, atol=1e-5)
        except (ManifestError, ValueError):
            return False
    return repr(made) == repr(kept)


def test_wordpiece_is_made_without_chance(golden):
    assert golden.wordpiece() == (GOLDEN / "wordpiece.json").read_bytes()


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_sentencepiece_models_are_made_without_chance(golden, name):
    make = getattr(golden, name)
    assert make() == make()


def test_the_record_can_be_read(golden):
    records = record.from_json((GOLDEN / "record.json").read_bytes())
    assert [r.cell.target for r in records] == ["adb"]


def test_small_files_only():
    assert all(path.stat().st_size < 600_000 for path in GOLDEN.iterdir() if path.is_file())


def test_unicode_tables_are_those_of_the_installed_tokenizers():
    tables = _script("make_tables")
    assert tables.render() == tables.TARGET.read_text(encoding="utf-8"), "run tests/golden/make_tables.py"


def test_the_core_imports_nothing_of_android():
    core = ROOT / "android_demo/app/src/main/kotlin/edgeembed/core"
    for path in core.glob("*.kt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            imported = line.removeprefix("import ").split(".")[0] if line.startswith("import ") else "java"
            assert imported in ("java", "kotlin"), f"{path.name}: {line}"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_without_tools_the_script_says_what_it_needs(tmp_path):
    result = subprocess.run(
        ["bash", ROOT / "android_demo/test.sh"],
        env={**os.environ, "TOOLS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert "kotlin-compiler" in result.stderr
    assert "--fetch" in result.stderr
    assert not list(tmp_path.iterdir())
