"""Kept directories: whole or not there, whoever else makes them."""

import pytest

from edge_embed_bench.files import make_directory, without_directories


def test_a_directory_appears_whole(tmp_path):
    place = tmp_path / "kept" / "form"

    def fill(directory):
        (directory / "a").write_text("x")
        assert not place.exists()

    make_directory(place, fill)
    assert [path.name for path in place.parent.iterdir()] == ["form"]
    assert (place / "a").read_text() == "x"


def test_a_quicker_process_wins(tmp_path):
    place = tmp_path / "form"

    def fill(directory):
        (directory / "a").write_text("ours")
        place.mkdir()
        (place / "a").write_text("theirs")

    make_directory(place, fill)
    assert (place / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [place]


def test_a_failure_leaves_nothing(tmp_path):
    def fill(directory):
        (directory / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make_directory(tmp_path / "form", fill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/a/b/c.tflite", "c.tflite"),
        ("--corpus=/a/b.jsonl", "--corpus=b.jsonl"),
        ("x=/a/b", "x=b"),
        ("/a/b.txt,/c/d.txt", "b.txt,d.txt"),
        ("--peers", "--peers"),
        ("openvino,torch", "openvino,torch"),
    ],
)
def test_a_published_command_has_no_directories(word, shown):
    assert without_directories(word) == shown
