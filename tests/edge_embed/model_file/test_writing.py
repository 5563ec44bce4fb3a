"""Writing a model file: nothing half-written is left, whatever interrupts it."""

import os
from pathlib import Path

import pytest

from edge_embed.errors import ConversionError
from edge_embed.model_file.file import write_model_file


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_writing_leaves_the_old_file_and_no_other(tmp_path, parts, monkeypatch, place, error):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"precious")
    monkeypatch.setattr(f"edge_embed.model_file.file.os.{place}", failing(error))
    with pytest.raises(ConversionError if isinstance(error, OSError) else KeyboardInterrupt):
        write_model_file(path, *parts)
    assert os.listdir(tmp_path) == ["x.tflite"]
    assert path.read_bytes() == b"precious"


def test_a_real_full_disk(tmp_path, parts, monkeypatch):
    # The only device that is always full stands in for the temporary file.
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr("edge_embed.model_file.file.open", lambda *_: full, raising=False)
        with pytest.raises(ConversionError, match="No space left"):
            write_model_file(tmp_path / "x.tflite", *parts)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path, parts, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    for path in (
        tmp_path / "missing" / "x",
        tmp_path / "file" / "x",
        tmp_path / "directory",
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(ConversionError, match="nothing was written"):
            write_model_file(path, *parts)
    monkeypatch.setattr(
        "edge_embed.model_file.file.open", failing(PermissionError(13, "denied")), raising=False
    )
    with pytest.raises(ConversionError, match="denied"):
        write_model_file(tmp_path / "x", *parts)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_a_graph_that_is_none(tmp_path, parts):
    with pytest.raises(ConversionError, match="not a LiteRT flatbuffer"):
        write_model_file(tmp_path / "x", b"nonsense", parts[1])
    assert os.listdir(tmp_path) == []
