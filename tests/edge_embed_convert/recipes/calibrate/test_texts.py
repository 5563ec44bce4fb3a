"""Calibration texts: the built-in ones, a file, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_embed.errors import InputError
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.recipes.calibrate import texts as calibration
from edge_embed_convert.recipes.calibrate.texts import BUILT_IN, FEWEST_TEXTS, MOST_TEXTS, Calibration


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_built_in_texts() -> None:
    texts = Calibration.read()
    lines = BUILT_IN.read_text("utf-8").splitlines()
    assert len(lines) == len(set(lines)) >= 250
    assert not {*lines} & {*SENTENCES}  # the gate judges on texts of its own
    assert not {*texts.fitted} & {*texts.measured}
    assert len(texts.fitted) > len(texts.measured) > 100
    scripts = {char for line in lines for char in line if ord(char) > 0x370}
    assert len(scripts) > 300
    assert texts.origin.startswith("built-in sha256:")


def test_a_file(tmp_path: Path) -> None:
    lines = [f"text {i}" for i in range(30)]
    path = _write(tmp_path / "mine.txt", ("\ufeff" + "\r\n\r\n".join(lines)).encode())
    texts = Calibration.read(path)
    assert [t for t in texts.measured if t in lines] == lines[::3]
    assert {*lines} - {*texts.measured} <= {*texts.fitted}
    assert " ".join(lines[:24:3]) in texts.measured  # a long one, of neighbours
    assert texts.origin.startswith("mine.txt sha256:")


def test_a_long_file_is_thinned_evenly(tmp_path: Path) -> None:
    path = _write(tmp_path / "long.txt", "\n".join(f"line {i}" for i in range(10 * MOST_TEXTS)).encode())
    texts = Calibration.read(path)
    numbers = sorted(int(t.split()[1]) for t in (*texts.fitted, *texts.measured) if t.count("line") == 1)
    assert numbers == list(range(0, 10 * MOST_TEXTS, 10))


def test_prompts_take_turns() -> None:
    names = [
        text.prompt_name for text in Calibration.read().fitting_texts({"query": "q: ", "document": "d: "})
    ]
    assert names[:4] == [None, "query", "document", None]
    assert {text.prompt_name for text in Calibration.read().measuring_texts({})} == {None}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"\n \n\t\n", "0 that are not blank"),
        (b"one\n" * (FEWEST_TEXTS - 1), f"{FEWEST_TEXTS - 1} that are not blank"),
        (b"fine\ncaf\xe9 is Latin-1\n", "line 2"),
        ("text\n".encode("utf-16-le") * 20, "line 1"),
    ],
)
def test_unusable_files_are_named_with_the_line(data: bytes, said: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "bad.txt", data)
    with pytest.raises(InputError) as caught:
        Calibration.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "line" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        Calibration.read(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="cannot read"):
        Calibration.read(tmp_path)


def test_the_texts_are_in_the_package() -> None:
    assert BUILT_IN.parent == Path(calibration.__file__).parent


def test_every_name_of_a_document_prompt_is_known() -> None:
    """As in `Embedder.encode_document`."""
    names = {text.prompt_name for text in Calibration.read().measuring_texts({"corpus": "c: ", "STS": "s: "})}
    assert names == {None, "corpus"}
