"""Real Ray clusters of two nodes on this machine: work is done once and in order, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from edge_embed import Embedder
from edge_embed.bulk.job import Prompting, embed_file
from edge_embed.bulk.rows import Fields
from edge_embed.cli import main
from edge_embed.errors import InputError, RuntimeFailure, TruncationWarning
from edge_embed.integrations.ray import Embed, embed_folder

FILES, ROWS = 4, 600
DOCUMENT = Prompting("document")


@pytest.fixture(scope="module")
def model(tiny_model):
    with Embedder(tiny_model, weight_cache="memory", num_threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Parquet files with rows of different lengths, small row groups."""
    folder = tmp_path_factory.mktemp("in")
    for file in range(FILES):
        texts = [f"water {file} {row} " + "red " * (row % 9) for row in range(ROWS)]
        table = pa.table({"id": range(file * ROWS, (file + 1) * ROWS), "text": texts})
        pq.write_table(table, folder / f"{file:02}.parquet", row_group_size=100)
    return folder


@pytest.fixture(scope="module")
def expected(model, source):
    """The vectors of one process, by file."""
    files = sorted(source.glob("*.parquet"))
    return {f.name: model.encode_document(pq.read_table(f)["text"].to_pylist()) for f in files}


@pytest.fixture
def two_nodes():
    """Starts a cluster of two nodes of one core each."""
    clusters = []

    def start():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        clusters.append(cluster)
        cluster.add_node(num_cpus=1)
        return cluster

    yield start
    ray.shutdown()
    for cluster in clusters:
        cluster.shutdown()


@pytest.fixture
def cluster(two_nodes):
    return two_nodes()


def check(output: Path, source: Path, expected: dict[str, np.ndarray]) -> None:
    """Nothing lost, nothing twice, in order, bit for bit."""
    # A worker that is killed at its very end leaves its lock.
    names = [path.name for path in output.iterdir() if path.suffix != ".lock"]
    assert sorted(names) == sorted(expected)
    for name, vectors in expected.items():
        table = pq.read_table(output / name)
        assert table.drop_columns(["embedding"]).equals(pq.read_table(source / name))
        flat = table["embedding"].combine_chunks().values.to_numpy()
        assert flat.tobytes() == vectors.tobytes()


def worker_pids() -> list[int]:
    """The processes that run a piece now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ray::_embed_piece" in word for word in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


def test_a_worker_and_a_node_die_in_the_middle(cluster, model, source, expected, tmp_path):
    output, done = tmp_path / "out", []
    faults: list[str] = []

    def break_things():
        # A worker, while it has written a part of a file and not all of it.
        wait_for(lambda: worker_pids() and list(output.glob(".*.partial")) + list(output.glob(".*.parts/*")))
        os.kill(wait_for(worker_pids)[0], signal.SIGKILL)
        faults.append("worker")
        wait_for(lambda: list(output.glob("0*.parquet")))
        assert sum(done) < FILES * ROWS
        cluster.remove_node(cluster.list_all_nodes()[-1])
        faults.append("node")

    thread = threading.Thread(target=break_things)
    thread.start()
    summary = embed_folder(
        model,
        str(source),
        output,
        prompting=DOCUMENT,
        address=cluster.address,
        part_size=10,
        advance=done.append,
    )
    thread.join()
    assert faults == ["worker", "node"]
    assert sum(done) == FILES * ROWS
    assert len(done) > FILES  # it says more than which files are finished
    assert summary.files == FILES
    assert summary.embedded == FILES * ROWS
    check(output, source, expected)


@pytest.fixture
def command(tiny_model, source, tmp_path):
    """The words of the command that embeds the files, but for the address."""
    words = [
        "embed",
        tiny_model,
        "--input",
        f"{source}/*.parquet",
        "--output",
        tmp_path / "out",
        "--document",
    ]
    return [*map(str, words), "--engine", "ray", "--part-size", "2"]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_embed", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_cluster_dies_in_the_middle(two_nodes, command, source, expected, tmp_path):
    """The command is a process of its own: after a minute without a head, Ray ends every process at once."""
    output, first = tmp_path / "out", two_nodes()
    driver = start([*command, "--address", first.address])
    wait_for(lambda: list(output.glob("0*.parquet")))
    first.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    printed, errors = driver.communicate(timeout=90)
    assert driver.returncode == 2
    assert printed == ""
    assert errors.count("edge_embed: ") == 1  # beside lines of Ray's own log
    assert "Traceback" not in errors
    what, got, fix = errors.splitlines()[-3:]
    assert what == "edge_embed: error: the Ray cluster is gone"
    assert "has not answered" in got
    assert "the same command goes on" in fix
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("0*.parquet")}
    assert 0 < len(finished) < FILES
    first.shutdown()
    again = start([*command, "--json", "--address", two_nodes().address])
    printed, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    assert json.loads(printed)["finished_before"] == len(finished)
    assert {name: (output / name).stat().st_mtime_ns for name in finished} == finished
    check(output, source, expected)


def test_a_full_disk(cluster, model, source, expected, mount_small_disk):
    disk = mount_small_disk(8)
    output, done = disk / "out", []

    def fill(rows):
        done.append(rows)
        if list(output.glob("0*.parquet")) and not (disk / "other").exists():
            with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
                while other.write(bytes(4096)):
                    continue

    words = {"prompting": DOCUMENT, "address": cluster.address, "part_size": 10}
    with pytest.raises(InputError, match="No space left") as caught:
        embed_folder(model, str(source), output, advance=fill, **words)
    assert "cannot write" in str(caught.value)
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("0*.parquet")}
    assert 0 < len(finished) < FILES
    for name in finished:  # what can be seen is whole
        assert pq.read_table(output / name).num_rows == ROWS
    (disk / "other").unlink()
    summary = embed_folder(model, str(source), output, **words)
    assert summary.finished_before == len(finished)
    assert {name: (output / name).stat().st_mtime_ns for name in finished} == finished
    check(output, source, expected)


def test_two_runs_at_once(cluster, command, model, source, expected, tmp_path):
    output = tmp_path / "out"
    other = start([*command, "--json", "--address", cluster.address])
    wait_for(lambda: list(output.glob(".0*.parquet.progress.json")))
    summary = embed_folder(model, str(source), output, prompting=DOCUMENT, address=cluster.address)
    printed, errors = other.communicate(timeout=180)
    assert other.returncode == 0, errors
    assert summary.files == json.loads(printed)["files"] == FILES
    check(output, source, expected)


def test_finished_files_are_not_done_again_and_unfinished_ones_go_on(
    cluster, model, source, expected, tmp_path
):
    output = tmp_path / "out"
    address = cluster.address
    first = embed_folder(model, f"{source}/0[01].parquet", output, prompting=DOCUMENT, address=address)
    assert (first.files, first.finished_before, first.embedded) == (2, 0, 2 * ROWS)
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}

    class Stop(Exception):
        pass

    def stop(rows):
        raise Stop

    with pytest.raises(Stop):  # the driver dies after a third of a file
        embed_file(
            model,
            str(source / "02.parquet"),
            output / "02.parquet",
            prompting=DOCUMENT,
            part_size=200,
            advance=lambda rows: stop(rows) if rows else None,
        )
    assert list(output.glob(".02*"))
    second = embed_folder(model, str(source), output, prompting=DOCUMENT, address=address)
    assert (second.files, second.finished_before) == (FILES, 2)
    check(output, source, expected)
    assert {n: (output / n).stat().st_mtime_ns for n in times} == times
    third = embed_folder(model, str(source), output, prompting=DOCUMENT, address=address)
    assert (third.finished_before, third.embedded) == (FILES, 0)
    facts = json.loads(pq.read_schema(output / "00.parquet").metadata[b"edge_embed"])
    assert facts["graph"] == model.manifest.graph.sha256


def test_the_output_of_another_model_is_refused(
    model, source, tmp_path, build_model, tiny_sentencepiece_model
):
    """Before anything starts: no cluster is needed for it."""
    output = tmp_path / "out"
    output.mkdir()
    embed_file(model, str(source / "00.parquet"), output / "00.parquet", prompting=DOCUMENT)
    before = (output / "00.parquet").read_bytes()
    other = Embedder(tiny_sentencepiece_model, weight_cache="memory", truncate_dim=4)
    with other, pytest.raises(InputError, match="its dimension was another"):
        embed_folder(other, str(source), output, prompting=DOCUMENT, address="127.0.0.1:1")
    with pytest.raises(InputError, match="its prompt was another"):
        embed_folder(model, str(source), output, prompting=Prompting("query"), address="127.0.0.1:1")
    pq.write_table(pa.table({"text": ["a"]}), output / "01.parquet")
    with pytest.raises(InputError, match="was not written by this command"):
        embed_folder(model, str(source), output, prompting=DOCUMENT, address="127.0.0.1:1")
    assert (output / "00.parquet").read_bytes() == before


def test_bad_rows_and_bad_files(cluster, model, tmp_path):
    folder, output, address = tmp_path / "in", tmp_path / "out", cluster.address
    (folder / "b").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["water", None, "red " * 100, "stone"]}), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["birds"]}), folder / "b" / "a.parquet")
    pattern = f"{folder}/**/*.parquet"
    with pytest.raises(InputError, match=r"a\.parquet, row 2"):
        embed_folder(model, pattern, output, address=address)
    with pytest.warns(TruncationWarning, match=r"a\.parquet: 1 of 3 texts were cut"):
        summary = embed_folder(model, pattern, output, address=address, skip_bad=True)
    assert (summary.embedded, summary.bad, summary.files) == (4, 1, 2)
    (bad,) = [json.loads(line) for path in summary.bad_paths for line in path.read_text().splitlines()]
    assert bad["row"] == 1
    assert pq.read_table(output / "a.parquet")["text"].to_pylist() == ["water", "red " * 100, "stone"]
    assert pq.read_table(output / "b" / "a.parquet").num_rows == 1
    with pytest.raises(InputError, match="no column 'body'"):
        embed_folder(model, pattern, tmp_path / "o2", fields=Fields("body"), address=address)
    (folder / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"c\.parquet is not a Parquet file"):
        embed_folder(model, pattern, tmp_path / "o2", address=address)
    with pytest.raises(InputError, match="no file matches"):
        embed_folder(model, f"{folder}/*.nothing", tmp_path / "o2", address=address)


def test_the_command(cluster, command, source, expected, tmp_path, capsys):
    words = [*command, "--address", cluster.address, "--workers", "2"]
    assert main(words) == 0
    assert f"wrote {FILES * ROWS} vectors of 8 numbers" in capsys.readouterr().out
    check(tmp_path / "out", source, expected)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished_before"] == FILES


def test_a_cluster_that_is_not_there(model, source, tmp_path):
    with pytest.raises(RuntimeFailure, match="no Ray cluster"):
        embed_folder(model, str(source), tmp_path / "out", address="127.0.0.1:1")


def test_embed_in_a_dataset(cluster, tiny_model, source, expected):
    ray.init(cluster.address, log_to_driver=False)
    rows = ray.data.read_parquet(str(source)).map_batches(
        Embed,
        fn_constructor_args=(str(tiny_model),),
        fn_constructor_kwargs={"role": "document", "weight_cache": "memory"},
        batch_format="pyarrow",
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=1),  # the other core reads
        num_cpus=1,
    )
    got = {row["id"]: np.asarray(row["embedding"], np.float32) for row in rows.take_all()}
    every = np.concatenate([expected[name] for name in sorted(expected)])
    assert len(got) == len(every)
    assert np.stack([got[number] for number in range(len(every))]).tobytes() == every.tobytes()
