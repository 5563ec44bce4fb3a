"""XLM-R's tokenizer as a SentencePiece model: the ids are those that sentence-transformers feeds."""

# ruff: noqa: RUF001 - lookalike characters are what these texts are for

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed.errors import TokenizerError
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed.text.unigram import UnigramEncoder
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.source import sentencepiece_unigram
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer as load_transformers
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS
from edge_embed_convert.source.tokenizers import ConvertedTokenizer, convert_tokenizer

TIES = ("iii", "3.333333333", "wait.... what", "(iii)", "''' '''", "-3-3-3", "a" * 300, "ababababab " * 9)
"""Texts of which several segmentations have the same score."""


def _write(directory: Path) -> Path:
    """An XLM-R checkpoint's tokenizer, trained here: nmt_nfkc, <mask> last, ids shifted as in fairseq."""
    model = io.BytesIO()
    lines = [*SENTENCES, *TIES, "i ii iii iiii . .. ... 3 33 333 -3 3-3 - ' ''"] * 3
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=500,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    schema = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    proto = schema.ModelProto.FromString(model.getvalue())
    trained = [(p.piece, p.score) for p in proto.pieces][3:]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *trained, ("<mask>", 0.0)]
    from tokenizers import AddedToken, Tokenizer, models, normalizers

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.add_special_tokens(
        ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, normalized=False)]
    )
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"model_type": "xlm-roberta", "vocab_size": len(pieces), "pad_token_id": 1}
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    names = {f"{kind}_token": f"<{kind}>" for kind in ("unk", "pad", "mask")}
    names |= {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "XLMRobertaTokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names), "utf-8")
    return directory


@functools.cache
def _pair() -> tuple[ConvertedTokenizer, Callable[[str], list[int]], Callable[[str], list[int]]]:
    """The converted tokenizer, and the ids that the runtime and transformers get."""
    with tempfile.TemporaryDirectory() as name:
        directory = _write(Path(name))
        made, source = convert_tokenizer(directory), load_transformers(directory)
    runtime = load_tokenizer(made.record, made.data)
    return made, runtime.encode, lambda text: source(text, add_special_tokens=False)["input_ids"]


def test_the_form_and_what_is_around_a_text() -> None:
    made, _, _ = _pair()
    record = made.record
    assert (record.kind, record.file) == ("unigram", "tokenizer.model")
    assert (record.prefix_ids, record.suffix_ids, record.pad_id) == ([0], [2], 1)
    assert "SentencePiece Unigram" in made.note


@pytest.mark.parametrize(
    "text",
    [
        *TIES,
        "<s>",
        "a<mask>b",
        "  <mask>  x <pad></s><unk>",
        "＜ｓ＞ ａ＜ｕｎｋ＞ｂ",
        "<unk><unk>🫠🫠",
        "🫠 🫠",
        "e\u0301 \ufb01\u0301 \u1112\u1161\u11ab e\u0323\u0302 A\u0351\u036b",
        "\u2581a\u2581\u2581b \u2581",
        "a\u200bb\u00adc\ufeff\td\r\ne\x1cf\u2028g\u3000h",
    ],
)
def test_odd_texts(text: str) -> None:
    _, runtime, source = _pair()
    assert runtime(text) == source(text)


def test_hostile_texts() -> None:
    _, runtime, source = _pair()
    assert [t for t in HOSTILE_TEXTS if runtime(t) != source(t)] == []


_PARTS = st.one_of(
    st.sampled_from(
        ["<s>", "<pad>", "<mask>", "<unk>", "i", "ii", ".", "...", "3", "-3", " ", "\u0301", "\u2581"]
    ),
    st.sampled_from("the ferry \t\n\u00a0\u200b\u200d\u0323\u0302\u3099ｆﬁ\u1112\u1161\u11abか\u0e33"),
    st.characters(exclude_categories=("Cs",)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PARTS, max_size=40).map("".join))
def test_any_text(text: str) -> None:
    _, runtime, source = _pair()
    assert runtime(text) == source(text)


def _spec(tmp_path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(load_transformers(_write(tmp_path)).backend_tokenizer.to_str())
    return spec


def test_what_has_no_exact_form(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    assert sentencepiece_unigram.why_not(spec) is None
    vocabulary = spec["model"]["vocab"]
    changes: dict[str, dict[str, Any]] = {
        "bytes": {"model": spec["model"] | {"byte_fallback": True}},
        "several words": {
            "model": spec["model"] | {"vocab": [*vocabulary[:-2], ["a\u2581b", -3.0], vocabulary[-1]]}
        },
        "float32": {"model": spec["model"] | {"vocab": [*vocabulary[:-2], ["qqq", -3.1], vocabulary[-1]]}},
        "normalizer": {"normalizer": {"type": "Lowercase"}},
        "pre-tokenizer": {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        "whole word": {"added_tokens": [t | {"single_word": True} for t in spec["added_tokens"]]},
        "gaps": {
            "added_tokens": [*spec["added_tokens"], spec["added_tokens"][0] | {"id": 9999, "content": "x"}]
        },
    }
    for words, change in changes.items():
        assert words in (sentencepiece_unigram.why_not(spec | change) or ""), words
        assert sentencepiece_unigram.build_if_exact(spec | change)[0] is None


def test_added_tokens_behind_the_vocabulary(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    size = len(spec["model"]["vocab"])
    spec["added_tokens"].append(spec["added_tokens"][0] | {"id": size, "content": "<new>"})
    encoder = UnigramEncoder(sentencepiece_unigram.build(spec))
    assert size in encoder.encode("a <new> b")


def test_a_damaged_model_is_our_error() -> None:
    made, _, _ = _pair()
    for data in (
        b"",
        b"\x1a",
        made.data[:500],
        made.data[600:],
        b"\x00" * 64,
        b"\x1a\x00\x12\x00" + made.data,
    ):
        with pytest.raises(TokenizerError):
            load_tokenizer(made.record, data)
