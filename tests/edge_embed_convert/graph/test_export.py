"""The exported graph: what the delegate takes, what the signatures say, and that they share every weight."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed.names import MANIFEST_NAME, PROBES_NAME
from edge_embed_convert.graph.export import decomposed_once, export
from edge_embed_convert.graph.passes.compact import compact
from edge_embed_convert.pipeline import Conversion

OUTSIDE = {"EMBEDDING_LOOKUP", "CAST", "RESHAPE"}
"""All that may run outside the delegate: the table's rows, and the ids on their way to the mask."""


def check_delegation(path: Path, length: int) -> None:
    report = partitions(path, length)
    assert report.partitions == 1
    assert set(report.outside) <= OUTSIDE, report
    assert report.outside.count("CAST") == 1
    assert 1 <= report.outside.count("EMBEDDING_LOOKUP") <= 2  # rows, and their scales
    assert report.outside.count("RESHAPE") <= 1


@pytest.mark.parametrize("index", [0, 1, 2])
def test_gemma_is_one_partition(gemma_file: Conversion, index: int) -> None:
    """In each bucket: within one window, with a window mask, and by blocks."""
    check_delegation(gemma_file.path, gemma_file.manifest.buckets[index])


@pytest.mark.parametrize("index", [0, 1])
def test_bert_is_one_partition(bert_file: Conversion, index: int) -> None:
    check_delegation(bert_file.path, bert_file.manifest.buckets[index])


@pytest.fixture(scope="module")
def float_bert(write_tiny_bert, ours, tmp_path_factory) -> Callable[[list[int]], Path]:
    """The float32 graph of a BERT that pools in every way, by its buckets."""
    directory = tmp_path_factory.mktemp("float")
    checkpoint = write_tiny_bert(directory / "bert")
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    config = checkpoint / "1_Pooling" / "config.json"
    config.write_text("{" + ", ".join(f'"pooling_mode_{mode}": true' for mode in modes) + "}", "utf-8")
    model = ours.load(checkpoint)

    def build(buckets: list[int]) -> Path:
        path = directory / f"{'-'.join(map(str, buckets))}.tflite"
        if not path.exists():
            export(model, buckets, path)
        return path

    return build


@pytest.fixture(scope="module")
def float_gemma(write_gemma, ours, tmp_path_factory) -> Path:
    """The float32 graph of a grouped-query Gemma, by blocks that do not divide its length, not compacted."""
    directory = tmp_path_factory.mktemp("float")
    checkpoint = write_gemma(directory / "gemma", num_attention_heads=4, num_key_value_heads=2)
    path = directory / "graph.tflite"
    export(ours.load(checkpoint), [70], path)
    return path


def test_every_pooling_is_delegated(float_bert) -> None:
    for length in (12, 40, 64):
        check_delegation(float_bert([12, 40, 64]), length)


def test_grouped_queries_by_blocks_are_delegated(float_gemma) -> None:
    check_delegation(float_gemma, 70)


def test_grouped_queries_by_blocks_run_as_in_torch(float_gemma, ours, random_ids) -> None:
    model = ours.load(float_gemma.parent / "gemma")
    for length in (5, 33, 70):
        ids = random_ids(length)
        got = _interpret(float_gemma, "embed_70", [*ids, *[0] * (70 - length)])
        assert np.abs(got - ours.run(model, ids, 70)).max() <= 1e-5


def test_the_first_decomposition_is_left_out_and_the_library_restored() -> None:
    from litert_torch._convert import core

    plain = core.export_torch_signature
    with contextlib.suppress(KeyError), decomposed_once():
        assert core.export_torch_signature.keywords == {"run_decompositions": False}
        raise KeyError
    assert core.export_torch_signature is plain


def test_decomposing_once_changes_no_byte(float_gemma, ours, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("edge_embed_convert.graph.export.decomposed_once", contextlib.nullcontext)
    export(ours.load(float_gemma.parent / "gemma"), [70], tmp_path / "twice.tflite")
    assert (tmp_path / "twice.tflite").read_bytes() == float_gemma.read_bytes()


def _interpret(path: Path, signature: str, ids: list[int]) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))  # must outlive its runner
    runner = interpreter.get_signature_runner(signature)
    return runner(tokens=np.array([ids], dtype=np.int32))["embedding"][0].copy()


def _models(gemma_file: Conversion, bert_file: Conversion) -> list[Conversion]:
    return [gemma_file, bert_file]


def test_signatures(gemma_file, bert_file) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for file in (gemma_file, bert_file):
        interpreter = Interpreter(str(file.path))
        names = {f"embed_{n}": n for n in file.manifest.buckets}
        assert interpreter.get_signature_list() == {
            name: {"inputs": ["tokens"], "outputs": ["embedding"]} for name in names
        }
        for name, length in names.items():
            runner = interpreter.get_signature_runner(name)
            (source,), (sink,) = runner.get_input_details().values(), runner.get_output_details().values()
            assert (source["dtype"], list(source["shape"])) == (np.int32, [1, length])
            assert (sink["dtype"], list(sink["shape"])) == (np.float32, [1, file.manifest.dimension])


def test_the_first_graph_is_the_longest(gemma_file) -> None:
    """Tools that know nothing of signatures feed the first graph."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(gemma_file.path))
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    assert list(source["shape"]) == [1, gemma_file.manifest.buckets[-1]]
    ids = np.zeros((1, 72), np.int32)
    ids[0, :4] = 2, 300, 301, 1
    interpreter.set_tensor(source["index"], ids)
    interpreter.invoke()
    vector = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    with Embedder(gemma_file.path, weight_cache="memory", num_threads=1) as model:
        assert vector @ model.encode_tokens([2, 300, 301, 1]) > 0.999


def test_interpreter_compiled_model_and_embedder_agree(gemma_file, bert_file) -> None:
    from ai_edge_litert.compiled_model import CompiledModel

    for file in (gemma_file, bert_file):
        manifest = file.manifest
        ids = manifest.self_check.tokens
        compiled = CompiledModel.from_file(str(file.path))
        with Embedder(file.path, weight_cache="memory", num_threads=1) as model:
            own = model.encode_tokens(ids)
        length = manifest.buckets[0]
        padded = [*ids, *[manifest.tokenizer.pad_id] * (length - len(ids))]
        source = compiled.create_input_buffer_by_name(f"embed_{length}", "tokens")
        sink = compiled.create_output_buffer_by_name(f"embed_{length}", "embedding")
        source.write(np.array([padded], dtype=np.int32))
        compiled.run_by_name(f"embed_{length}", {"tokens": source}, {"embedding": sink})
        for vector in (
            sink.read(manifest.dimension, np.float32),
            _interpret(file.path, f"embed_{length}", padded),
        ):
            assert np.abs(vector - own).max() <= 1e-5


def _tables(graph: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(graph))


def test_buckets_share_every_weight(float_bert) -> None:
    one, three = (compact(float_bert(b).read_bytes()) for b in ([64], [12, 40, 64]))
    assert len(three) <= 1.10 * len(one)  # tiny weights: the operators of a graph are a part worth naming
    matrices = [_weights(_tables(graph)) for graph in (one, three)]
    assert matrices[0] == matrices[1]
    assert len(matrices[0]) >= 2 * 4  # four projections in each of two layers


def _weights(model: Any) -> dict[tuple[int, ...], int]:
    """Returns how many different buffers hold constants of each two-dimensional shape worth sharing."""
    buffers: dict[tuple[int, ...], set[int]] = {}
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            data = model.buffers[tensor.buffer].data
            shape = tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()
            if data is not None and len(data) >= 4096 and len(shape) == 2:
                buffers.setdefault(shape, set()).add(tensor.buffer)
    return {(*shape, i): 1 for shape, found in buffers.items() for i in range(len(found))}


def test_quantized_buckets_share_every_weight(gemma_file) -> None:
    model = _tables(_graph(gemma_file))
    used: list[set[int]] = []
    for subgraph in model.subgraphs:
        large = {
            t.buffer
            for t in subgraph.tensors
            if (d := model.buffers[t.buffer].data) is not None and len(d) > 1024
        }
        used.append(large)
    weights = set.intersection(*used)
    # The table, four projections in each of four layers, two Dense modules.
    assert len(weights) >= 1 + 4 * 4 + 2
    sizes = [sum(len(model.buffers[i].data) for i in group) for group in (set.union(*used), weights)]
    assert sizes[0] <= 1.35 * sizes[1]  # masks of the longest buckets; a weight more is more than that


def _graph(file: Conversion) -> bytes:
    return file.path.read_bytes()[: file.manifest.graph.bytes]


def test_opens_as_a_zip(gemma_file, bert_file) -> None:
    for file in (gemma_file, bert_file):
        with zipfile.ZipFile(file.path) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert names[0] == MANIFEST_NAME
            assert {PROBES_NAME, file.manifest.tokenizer.file} <= set(names)
            assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
            assert archive.read(MANIFEST_NAME) == file.manifest.to_json().encode()


def test_the_zip_part_is_no_part_of_the_graph(bert_file) -> None:
    graph = _graph(bert_file)
    assert graph[4:8] == b"TFL3"
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(graph))
    assert _tables(graph).signatureDefs


def test_no_infinities_in_the_graph(float_gemma) -> None:
    model = _tables(compact(float_gemma.read_bytes()))
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) and len(buffer.data) % 4 == 0:
            values = np.frombuffer(bytes(buffer.data), dtype="<f4")
            assert not np.isinf(values).any()


def test_no_bucket(ours, bert_checkpoint, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no bucket"):
        export(ours.load(bert_checkpoint), [], tmp_path / "none.tflite")
