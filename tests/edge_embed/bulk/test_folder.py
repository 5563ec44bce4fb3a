"""Which files of a folder are to be done, and what an output folder may hold already."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

import pytest

from edge_embed.bulk.folder import find_files, plan_pieces, rows_done
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
    files, base = find_files(f"{source}/**/*.parquet")
    assert [str(path.relative_to(base)) for path in files] == ["a/0.parquet", "a/1.parquet", "b/2.parquet"]
    files, base = find_files(str(source / "a"))
    assert [str(path.relative_to(base)) for path in files] == ["0.parquet", "1.parquet"]
    # The folder does not depend on which files are there now.
    assert find_files(f"{source}/a*/*.parquet")[1] == source
    assert find_files(f"{source}/a/0.parquet")[1] == source / "a"
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


def test_a_file_is_not_replaced_by_its_own_output(words, source):
    before = (source / "a" / "0.parquet").read_bytes()
    for restart in (False, True):
        for output in (source / "a", source / "b" / ".." / "a"):
            with pytest.raises(InputError, match="would be replaced by its own output"):
                plan_pieces(words, str(source / "a"), output, restart=restart)
    assert (source / "a" / "0.parquet").read_bytes() == before


def test_outputs_below_the_input_are_not_taken_for_input(words, source):
    pattern, output = f"{source}/**/*.parquet", source / "out"
    first = plan_pieces(words, pattern, output)
    embed_file(words, first[0].source, first[0].output)
    again = plan_pieces(words, pattern, output)
    assert [piece.source for piece in again] == [piece.source for piece in first]
    assert [piece.done for piece in again] == [True, False, False]
    with pytest.raises(InputError, match="are outputs in"):
        plan_pieces(words, f"{output}/**/*.parquet", output)


def test_an_unfinished_output_of_another_model_is_refused_before_the_beginning(words, source, tmp_path):
    output, pattern = tmp_path / "out", str(source / "a")
    piece = plan_pieces(words, pattern, output)[1]
    with pytest.raises(Stop):
        embed_file(words, piece.source, piece.output, part_size=1, advance=stop)
    assert rows_done(piece) == 1
    with pytest.raises(InputError, match="cannot be continued: its prompt was another"):
        plan_pieces(words, pattern, output, prompting=Prompting("query"))
    assert rows_done(piece) == 1
    plan_pieces(words, pattern, output, prompting=Prompting("query"), restart=True)
    assert rows_done(piece) == 0


def test_what_another_run_has_finished_meanwhile_is_kept(words, source, tmp_path):
    output, pattern = tmp_path / "out", str(source / "a")
    piece = plan_pieces(words, pattern, output)[0]
    embed_file(words, piece.source, piece.output)  # the other run
    inode = piece.output.stat().st_ino
    kept = embed_file(words, piece.source, piece.output, resume=True, kept=piece.is_finished)
    assert (kept.rows, piece.output.stat().st_ino) == (2, inode)
    query = replace(piece, facts={**piece.facts, "prompt": "query"})
    with pytest.raises(InputError, match="its prompt was another"):
        embed_file(words, piece.source, piece.output, kept=query.is_finished)
    # A run that does everything anew does what was there before it, and nothing twice.
    piece = plan_pieces(words, pattern, output, restart=True)[0]
    embed_file(words, piece.source, piece.output, resume=True, kept=piece.is_finished)
    assert (again := piece.output.stat().st_ino) != inode
    embed_file(words, piece.source, piece.output, resume=True, kept=piece.is_finished)
    assert piece.output.stat().st_ino == again


def test_what_a_kill_at_the_very_end_has_left_is_removed(words, source, tmp_path, monkeypatch):
    piece = plan_pieces(words, str(source / "a"), tmp_path / "out")[0]

    def killed(path, **more):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(Stop):
            embed_file(words, piece.source, piece.output)
    left = {path.name for path in piece.output.parent.iterdir()}
    assert left == {"0.parquet", ".0.parquet.parts", ".0.parquet.progress.json", ".0.parquet.lock"}
    assert plan_pieces(words, str(source / "a"), tmp_path / "out")[0].done
    assert [path.name for path in piece.output.parent.iterdir()] == ["0.parquet"]


def test_an_output_folder_that_cannot_be_made(words, source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("a file")
    with pytest.raises(InputError, match="cannot make the folder"):
        plan_pieces(words, f"{source}/**/*.parquet", tmp_path / "out")


class Stop(Exception):
    pass


def stop(rows):
    if rows:
        raise Stop


def test_restart_drops_what_an_unfinished_run_has_left(words, source, tmp_path):
    output = tmp_path / "out"
    piece = plan_pieces(words, str(source / "a"), output)[0]
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
