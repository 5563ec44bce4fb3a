"""Synthetic models: built once, kept whole, marked in every record."""

import json
import shutil

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.names import SYNTHETIC
from edge_embed_bench.records.model import SYNTHETIC_MARK
from edge_embed_bench.synthetic import models as synthetic
from edge_embed_bench.synthetic import tokenizers


@pytest.mark.parametrize("size", [600, 2000])
def test_gemma_tokenizer_becomes_sentencepiece(tmp_path, size):
    from tokenizers import Tokenizer

    from edge_embed_convert.source.tokenizers import convert_tokenizer

    files = tokenizers.gemma_tokenizer_files(size)
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    assert tokenizer.get_vocab_size() == size
    ids = tokenizer.encode("Rain fell on the harbour.").ids
    assert (ids[0], ids[-1], max(ids) < size) == (2, 1, True)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size, "pad_token_id": 0}))
    assert convert_tokenizer(tmp_path).record.kind == "sentencepiece"


def test_bert_tokenizer_has_the_released_size():
    from tokenizers import Tokenizer

    files = tokenizers.bert_tokenizer_files()
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    assert tokenizer.get_vocab_size() == tokenizers.BERT_VOCABULARY
    assert "[UNK]" not in tokenizer.encode("Rain fell, twice: 42!").tokens
    assert files == tokenizers.bert_tokenizer_files()


def test_built_once_and_marked(bench, small, cache_directory):
    words = ("--lengths", "16", "--repetitions", "2", "--loads", "1", "--threads", "1")
    result = bench("--synthetic", "minilm", *words, "--json")
    assert result.code == 0, result.err
    (record,) = result.records
    assert record["model"]["synthetic"] is True
    assert record["model"]["name"] == f"{SYNTHETIC_MARK}-minilm"
    (path,) = (cache_directory / "synthetic").rglob("*.tflite")
    assert path.name == f"{SYNTHETIC_MARK}-minilm.int8.tflite"
    before = path.stat().st_mtime_ns
    again = bench(path, *words)  # the mark is in the file, whoever names it
    assert "random weights" in again.out
    assert synthetic.build("minilm") == path
    assert path.stat().st_mtime_ns == before


def test_a_changed_maker_makes_a_new_file(small, monkeypatch, tmp_path):
    # The key is what is tested; converting takes seconds and is tested above.
    monkeypatch.setattr(
        "edge_embed_convert.convert", lambda source, target, **_: target.write_bytes(b"model")
    )
    first = synthetic.build("minilm")
    checkpoint = synthetic.checkpoint("minilm")
    copy = tmp_path / "edge_embed_convert"
    shutil.copytree(synthetic._converter(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(synthetic, "_converter", lambda: copy)
    assert synthetic.build("minilm") == first
    with (copy / "families" / "bert" / "encoder.py").open("a") as source:
        source.write("# changed\n")
    second = synthetic.build("minilm")
    assert second != first
    assert second.is_file()
    assert synthetic.checkpoint("minilm") == checkpoint
    with (copy / "random_checkpoint.py").open("a") as source:
        source.write("# changed\n")
    assert synthetic.checkpoint("minilm") != checkpoint


def test_unknown_names(bench):
    assert "embeddinggemma-300m, minilm" in bench("--synthetic", "bert").err
    assert bench("--synthetic", "minilm,bert").code == 2
    assert tuple(synthetic.SHAPES) == SYNTHETIC
    assert "--synthetic" in bench("--recipe", "int4").err


def test_a_failure_leaves_nothing_behind(small, cache_directory, monkeypatch):
    def full(path, family, files, **sizes):
        (path / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_embed_convert.random_checkpoint.write_random_checkpoint", full)
    with pytest.raises(InputError, match=r"(?s)cannot build.*No space"):
        synthetic.checkpoint("minilm")
    assert [path for path in (cache_directory / "synthetic").rglob("*") if path.name.endswith("minilm")] == []
    assert list((cache_directory / "synthetic").rglob("half")) == []
