"""The whole pipeline: what a conversion writes, when it writes nothing, and that it never writes half."""

from __future__ import annotations

import builtins
import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.cli import main
from edge_embed.errors import CheckpointError, ConversionError, ParityError, RecipeError
from edge_embed.model_file.file import ModelFile
from edge_embed_convert import job, save
from edge_embed_convert.families import family_named
from edge_embed_convert.graph.export import export
from edge_embed_convert.pipeline import Conversion, convert
from edge_embed_convert.recipes import grammar, quantize

# What is written.


@pytest.mark.parametrize("which", ["gemma_file", "bert_file"])
def test_a_conversion_is_verified(which: str, request: pytest.FixtureRequest) -> None:
    file: Conversion = request.getfixturevalue(which)
    parity = file.manifest.parity
    assert parity.passed
    assert parity.failures == []
    assert parity.token_mismatches == parity.non_finite == parity.zero_vectors == 0
    assert [bucket.length for bucket in parity.buckets] == file.manifest.buckets
    assert sum(bucket.probes for bucket in parity.buckets) == parity.probes
    assert parity.thresholds == grammar.Recipe.parse(file.manifest.recipe.name).thresholds.as_dict()
    assert ModelFile.open(file.path).manifest == file.manifest
    assert len(ModelFile.open(file.path).probes()) == parity.probes


def test_probes_reach_every_bucket_full_and_barely(gemma_file, bert_file) -> None:
    for file in (gemma_file, bert_file):
        buckets = file.manifest.buckets
        lengths = [len(probe.tokens) for probe in ModelFile.open(file.path).probes()]
        for below, bucket in zip([3, *buckets], buckets, strict=False):
            assert bucket in lengths
            assert below + 1 in lengths


def test_what_the_manifest_of_gemma_says(gemma_file: Conversion, gemma_checkpoint: Path) -> None:
    manifest = gemma_file.manifest
    assert gemma_file.path.name == "tiny-gemma.mixed.tflite"
    assert (manifest.name, manifest.source.id, manifest.source.revision) == ("tiny-gemma", "tiny-gemma", None)
    assert (manifest.recipe.name, manifest.recipe.spec) == ("mixed", "e4_a8_f4_p4")
    assert manifest.architecture.family == "embeddinggemma"
    assert manifest.architecture.config == json.loads((gemma_checkpoint / "config.json").read_text("utf-8"))
    assert (manifest.pooling, manifest.normalize, manifest.dimension) == (["mean"], True, 64)
    assert manifest.matryoshka_dimensions == [64]
    assert manifest.max_tokens == manifest.buckets[-1] == 72
    assert manifest.prompts == family_named("embeddinggemma").released.prompts
    assert manifest.default_prompt_name is None
    assert (manifest.tokenizer.kind, manifest.tokenizer.file) == ("sentencepiece", "tokenizer.model")
    assert (manifest.tokenizer.prefix_ids, manifest.tokenizer.suffix_ids, manifest.tokenizer.pad_id) == (
        [2],
        [1],
        0,
    )
    # Found by trying: rows of 64 random numbers begin so small that their squares leave float16 below.
    assert not manifest.graph.fp16_safe
    assert (manifest.licence.name, manifest.licence.files) == ("apache-2.0", ["LICENSE", "NOTICE"])
    assert {"edge-embed", *save.TOOLS} == set(manifest.tools)


def test_licence_files_are_carried(gemma_file: Conversion) -> None:
    with zipfile.ZipFile(gemma_file.path) as archive:
        assert archive.read("LICENSE") == b"the terms\n"
        assert archive.read("NOTICE") == b"a notice\n"


def test_what_the_manifest_of_bert_says(bert_file: Conversion) -> None:
    manifest = bert_file.manifest
    assert bert_file.path.name == f"tiny-bert.{manifest.recipe.name}.tflite"
    assert (manifest.architecture.family, manifest.recipe.name) == ("bert", "int8")
    tokenizer = manifest.tokenizer
    assert (tokenizer.kind, tokenizer.prefix_ids, tokenizer.suffix_ids) == ("tokenizers", [2], [3])
    assert manifest.prompts == {}
    assert manifest.licence.files == []


def test_released_dimensions() -> None:
    assert save.matryoshka_dimensions((768, 512, 256, 128), 768) == [768, 512, 256, 128]
    assert save.matryoshka_dimensions((768, 512, 256, 128), 64) == [64]
    assert save.matryoshka_dimensions((), 384) == [384]


def test_the_file_answers_as_its_source(bert_file: Conversion, bert_checkpoint: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    theirs = sentence_transformers.SentenceTransformer(str(bert_checkpoint), device="cpu")
    texts = ["The ferry leaves at seven.", "stone " * 20, "日本", "", "a"]
    with Embedder(bert_file.path, num_threads=1) as model:
        assert ((model.encode(texts) * theirs.encode(texts)).sum(axis=1) > 0.99).all()
        assert model.tokenize(texts) == [theirs.tokenizer(text)["input_ids"] for text in texts]


def test_prompts_reach_the_vectors(gemma_file: Conversion, gemma_checkpoint: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    theirs = sentence_transformers.SentenceTransformer(str(gemma_checkpoint), device="cpu")
    text = "a cat slept"
    with Embedder(gemma_file.path, num_threads=1) as model:
        ours = [model.encode(text), model.encode_query(text), model.encode_document(text)]
    wanted = [
        theirs.encode(text),
        theirs.encode(text, prompt_name="query"),
        theirs.encode(text, prompt_name="document"),
    ]
    cosines = np.stack(ours) @ np.stack(wanted).T
    assert (cosines.argmax(axis=1) == [0, 1, 2]).all(), cosines


def test_twice_gives_the_same_bytes(monkeypatch, one_layer: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("edge_embed_convert.job.export", export)  # the other tests share what they export
    files = [convert(one_layer, tmp_path / name, num_threads=1).path for name in ("a.tflite", "b.tflite")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_names_and_steps(one_layer: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    result = convert(
        one_layer,
        tmp_path,
        name="mine",
        recipe="fp32",
        num_threads=1,
        progress=lambda *step: steps.append(step),
    )
    assert [p.name for p in tmp_path.iterdir()] == ["mine.fp32.tflite"]
    assert result.manifest.name == "mine"
    assert [done for _, done, _ in steps] == list(range(len(steps)))
    assert steps[-1][0] == "saving"
    assert steps[-1][2] == len(steps)


# The gate.


def test_the_gate_refuses(strict: None, one_layer: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("here before", "utf-8")
    with pytest.raises(ParityError, match="nothing was written") as caught:
        convert(one_layer, tmp_path, num_threads=1)
    assert "cosine_mean" in str(caught.value)
    assert "--force" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_the_gate_sees_a_wrong_weight(monkeypatch, one_layer: Path, tmp_path: Path) -> None:
    """Between the source and the file, something goes wrong that nobody reports."""
    real = job.build

    def damaged(*args: Any) -> Any:
        model = real(*args)
        model.encoder.layers[0].query.weight.data.mul_(-3)
        model.encoder.positions.data.mul_(-5)
        return model

    monkeypatch.setattr(job, "build", damaged)
    with pytest.raises(ParityError, match="does not agree"):
        convert(one_layer, tmp_path, num_threads=1)
    assert list(tmp_path.iterdir()) == []


def test_the_gate_sees_other_tokens(monkeypatch, one_layer: Path, tmp_path: Path) -> None:
    from edge_embed_convert.source.reference import Reference

    monkeypatch.setattr(Reference, "tokenize", lambda self, text: [2, 9, 9, 3])
    with pytest.raises(ParityError, match="token_mismatches"):
        convert(one_layer, tmp_path, num_threads=1)


def test_force_saves_and_says_so(strict: None, one_layer: Path, tmp_path: Path, capfd) -> None:
    target = tmp_path / "forced.tflite"
    assert main(["convert", str(one_layer), "-o", str(target), "--force", "--threads", "1"]) == 1
    assert "FAILED" in capfd.readouterr().out
    manifest = ModelFile.open(target).manifest
    assert not manifest.parity.passed
    assert manifest.parity.failures
    Embedder(target, num_threads=1).close()


# Places that cannot be written.


def test_output_directory_missing(one_layer: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="absent") as caught:
        convert(one_layer, tmp_path / "absent" / "model.tflite", num_threads=1)
    assert "--output" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_output_directory_is_a_file(one_layer: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text", "utf-8")
    with pytest.raises(ConversionError, match="file"):
        convert(one_layer, tmp_path / "file" / "model.tflite", num_threads=1)
    assert (tmp_path / "file").read_text("utf-8") == "text"


def test_output_directory_refuses(monkeypatch, one_layer: Path, tmp_path: Path) -> None:
    """As a read-only one does; root may write anywhere, so the refusal is played."""

    def mkdir(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ConversionError, match="Permission denied"):
        convert(one_layer, tmp_path / "model.tflite", num_threads=1)


class _FullDisk:
    """Lets `room` bytes through to files, then says that the disk is full."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = self._file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _full_at_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def _full_at_write(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.open

    def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        handle = real(file, mode, *args, **kwargs)
        return _FullDisk(handle, 20_000) if mode == "xb" else handle

    monkeypatch.setattr(builtins, "open", opening)


@pytest.mark.parametrize("fill", [_full_at_fsync, _full_at_write])
def test_disk_full_while_saving(
    fill: Callable[[pytest.MonkeyPatch], None], monkeypatch, one_layer: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model.tflite"
    target.write_bytes(b"the file of yesterday")
    fill(monkeypatch)
    with pytest.raises(ConversionError, match="No space left") as caught:
        convert(one_layer, target, num_threads=1)
    assert "nothing was written" in str(caught.value)
    assert target.read_bytes() == b"the file of yesterday"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "step",
    ["loading the source model", "writing the float32 graph", "converted file in its runtime", "saving"],
)
def test_interrupt(step: str, one_layer: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tflite"
    target.write_bytes(b"the file of yesterday")

    def interrupt(name: str, done: int, total: int) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(one_layer, target, num_threads=1, progress=interrupt)
    assert target.read_bytes() == b"the file of yesterday"
    assert list(tmp_path.iterdir()) == [target]


def test_bad_arguments_come_before_any_work(monkeypatch, one_layer: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(job, "convert_tokenizer", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(RecipeError, match="int9"):
        convert(one_layer, tmp_path, recipe="int9")
    with pytest.raises(CheckpointError, match="list of buckets"):
        convert(one_layer, tmp_path, buckets=[8, 12])
    with pytest.raises(CheckpointError, match="maximum length"):
        convert(one_layer, tmp_path, max_tokens=17)
    assert list(tmp_path.iterdir()) == []


def test_a_projection_that_was_missed_fails_before_the_gate(
    monkeypatch, one_layer: Path, tmp_path: Path
) -> None:
    real = quantize._pattern
    monkeypatch.setattr(quantize, "_pattern", lambda names: real([n for n in names if "_down" not in n]))
    monkeypatch.setattr(job.gate, "measure", lambda *_, **__: pytest.fail("the gate was reached"))
    with pytest.raises(ConversionError, match=r"encoder\.layers\.0\.down"):
        convert(one_layer, tmp_path, num_threads=1)
    assert list(tmp_path.iterdir()) == []
