"""Which files of a folder are to be done, and what an output folder may hold already."""

from __future__ import annotations

import threading
import time

import pytest

from edge_embed.bulk.folder import find_files, plan_pieces
from edge_embed.bulk.formats import open_output, parquet_facts
from edge_embed.bulk.job import Prompting, embed_file
from edge_embed.bulk.rows import Fields
from edge_embed.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def source(tmp_path):
    for name in ("b/2.parquet", "a/1.parquet", "a/0.parquet"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [name, "water"], "n": [1, 2]}), path)
    return tmp_path / "in"


def test_files_are_found_in_the_order_of_their_names(source):
    assert [path.name for path in find_files(f"{source}/**/*.parquet")] == [
        "0.parquet",
        "1.parquet",
        "2.parquet",
    ]
    assert [path.name for path in find_files(str(source / "a"))] == ["0.parquet", "1.parquet"]
    (source / "a" / "x.txt").write_text("x")
    for wrong in (str(source), f"{source}/nothing/*", f"{source}/a/*"):
        with pytest.raises(InputError):
            find_files(wrong)


def test_pieces_repeat_the_folders_and_know_what_is_done(words, source, tmp_path):
    output = tmp_path / "out"
    pieces = plan_pieces(words, f"{source}/**/*.parquet", output)
    assert [str(piece.output.relative_to(output)) for piece in pieces] == [
        "a/0.parquet",
        "a/1.parquet",
        "b/2.parquet",
    ]
    assert [(piece.rows, piece.done) for piece in pieces] == [(2, False)] * 3
    embed_file(words, pieces[1].source, pieces[1].output)
    assert parquet_facts(pieces[1].output) == pieces[1].facts
    again = plan_pieces(words, f"{source}/**/*.parquet", output)
    assert [piece.done for piece in again] == [False, True, False]


def test_what_belongs_to_another_run_is_refused(words, source, tmp_path):
    output, pattern = tmp_path / "out", str(source / "a")
    piece = plan_pieces(words, pattern, output)[0]
    embed_file(words, piece.source, piece.output)
    with pytest.raises(InputError, match="its prompt was another"):
        plan_pieces(words, pattern, output, prompting=Prompting("query"))
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), piece.source)
    with pytest.raises(InputError, match=r"its input (size|time) was another"):
        plan_pieces(words, pattern, output)
    assert not any(p.done for p in plan_pieces(words, pattern, output, restart=True))
    assert piece.output.exists()  # until it is replaced
    piece.output.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not a Parquet file"):
        plan_pieces(words, pattern, output)
    pq.write_table(pa.table({"text": ["a"]}), piece.output)
    with pytest.raises(InputError, match="not written by this command"):
        plan_pieces(words, pattern, output)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        plan_pieces(words, pattern, tmp_path / "file")
    with pytest.raises(InputError, match="no column 'body'"):
        plan_pieces(words, pattern, tmp_path / "out2", fields=Fields("body"))
    assert not (tmp_path / "out2").exists()


def test_restart_drops_what_an_unfinished_run_has_left(words, source, tmp_path):
    output = tmp_path / "out"
    piece = plan_pieces(words, str(source / "a"), output)[0]

    class Stop(Exception):
        pass

    def stop(rows):
        if rows:
            raise Stop

    with pytest.raises(Stop):
        embed_file(words, piece.source, piece.output, part_size=1, advance=stop)
    assert len(list(output.glob(".0.parquet*"))) > 1
    plan_pieces(words, str(source / "a"), output, restart=True)
    assert not list(output.iterdir())


def test_an_output_waits_for_the_one_who_writes(tmp_path):
    first, second = (open_output(tmp_path / "v.npy", {}, 2) for _ in range(2))
    first.begin(resume=True, restart=False)
    with pytest.raises(InputError, match="another process is writing"):
        second.begin(resume=True, restart=False)
    timer = threading.Timer(0.3, first.close)
    timer.start()
    started = time.monotonic()
    second.begin(resume=True, restart=False, patience=60)
    assert time.monotonic() - started >= 0.1
    second.close()
    timer.join()
