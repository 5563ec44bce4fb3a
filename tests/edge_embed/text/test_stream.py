"""Tokenizing a long text in chunks gives the ids of the whole text, for every kind of tokenizer."""

# ruff: noqa: RUF001 - lookalike characters are what tokenizers are tried on

import itertools
import json
import time
import tracemalloc
from pathlib import Path

import pytest
import tokenizers as hf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.text.stream import Source, first_ids, read_ids
from edge_embed.text.tokenizers import load_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
PIECES = [
    *(
        "the",
        "red",
        "planet",
        "of",
        "embeddings",
        "tables",
        "naïve",
        "Größe",
        "планета",
        "ΑΣ",
        "σς",
        "惑星",
        "赤",
    ),
    *(
        "한국어",
        "जी",
        "الكوكب",
        "x",
        "ab",
        "0",
        "3.14",
        "１２",
        "ﬁ",
        "①",
        "e\u0301",
        "\u0301",
        "İ",
        "ß",
        "🙂",
        "👩‍🚀",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\u00a0",
        "\u3000",
        "\u200b",
        "\u2581",
        "▁of▁",
        " of ",
        "\x00",
        "\u202e",
        "…",
    ),
    *(
        "<bos>",
        "<eos>",
        "<pad>",
        "<unk>",
        "<tag>",
        "<start_of_turn>",
        "[MASK]",
        "[PAD]",
        "<b>",
        "<bb>",
        "<",
        ">",
    ),
    *(".", ",", "!", "'", "-", "。", "、", "_", "#", "(", "a b", "don't", "A", "fi", "ｆｕｌｌ"),
]
TEXTS = st.lists(
    st.tuples(st.sampled_from(PIECES), st.sampled_from([1, 1, 1, 2, 3, 20, 150])), max_size=60
).map(lambda parts: "".join(piece * times for piece, times in parts))
WORDS = st.lists(st.sampled_from(PIECES[:20]), max_size=120).map(" ".join)


def _byte_level():
    """A BPE over bytes, as RoBERTa and ModernBERT have it."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(PIECES)] * 4, trainer)
    return tokenizer.to_str().encode()


def _metaspace():
    """A Unigram over words, as XLM-R has it."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz")]
    pieces += [("▁the", -3.0), ("xx", -7.5), ("xxxx", -9.0), ("planet", -5.0), ("net", -5.5), ("ab", -8.0)]
    tokenizer = hf.Tokenizer(hf.models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = hf.normalizers.NFKC()
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [hf.pre_tokenizers.WhitespaceSplit(), hf.pre_tokenizers.Metaspace()]
    )
    return tokenizer.to_str().encode()


def _load(name, lowercase=False):
    kind, data = "tokenizers", None
    if name == "wordpiece":
        data = json.dumps(json.loads((GOLDEN / "wordpiece.json").read_text())).encode()
    elif name in ("bpe", "unigram"):
        kind, data = "sentencepiece", (GOLDEN / f"{name}.model").read_bytes()
    else:
        data = _byte_level() if name == "byte-level" else _metaspace()
    return load_tokenizer(TokenizerRecord(name, kind, "", lowercase, 0, [], [], 1000), data)


KINDS = ["bpe", "unigram", "wordpiece", "byte-level", "metaspace"]


@pytest.fixture(scope="module", params=[*KINDS, "bpe lowercase", "wordpiece lowercase"])
def named(request):
    name, _, lowercase = request.param.partition(" ")
    return name, _load(name, bool(lowercase))


@given(
    text=TEXTS | WORDS,
    chunk=st.integers(70, 400),
    head=st.sampled_from(["", "query: ", "title: none | text:"]),
)
@example(text="x" * 3000, chunk=100, head="")
@example(text="x" * 2999, chunk=100, head="")
@example(text="aab" * 1000, chunk=100, head="")
@example(text="x" * 1000 + " the red planet" * 20, chunk=100, head="q ")
@example(text=" " * 1000 + "the", chunk=100, head="")
@example(text="赤い惑星" * 300, chunk=100, head="")
@example(text="ΑΣ" * 100 + "'" * 100 + "a", chunk=100, head="")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_chunks_give_the_ids_of_the_whole(named, text, chunk, head):
    name, tokenizer = named
    whole = tokenizer.encode(head + text)
    parts = list(read_ids(tokenizer, Source(head, text), chunk))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    ids = [token for part in parts for token in part.ids]
    if name == "unigram":  # its scores are rounded from the start of the input: see `stream`
        assert ids[: len(parts[0].ids)] == whole[: len(parts[0].ids)]
        assert len(ids) == pytest.approx(len(whole), abs=len(parts))
    else:
        assert ids == whole


@given(text=TEXTS | WORDS, chunk=st.integers(70, 400), count=st.integers(1, 120))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_first_ids_are_those_of_the_whole(named, text, chunk, count):
    tokenizer = named[1]
    whole = tokenizer.encode(text)
    ids, complete = first_ids(tokenizer, Source("", text), count, chunk)
    assert ids == whole[: len(ids)]
    assert len(ids) >= min(count, len(whole))
    assert not complete or ids == whole


HUGE = 10_000_000


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *itertools.product(
            ["bpe", "unigram", "wordpiece"], ["the red planet. ", "赤い惑星。", "word\n", "x", " "]
        ),
        *itertools.product(["byte-level", "metaspace"], ["the red planet. ", "word\n"]),
    ],
)
def test_ten_megabytes_are_read_as_far_as_is_needed(kind, text):
    tokenizer, count, chunk = _load(kind), 257, 4096
    long = text * (HUGE // len(text.encode()))
    first_ids(tokenizer, Source("", long[: 3 * chunk]), count, chunk)  # prepares what is prepared once
    tracemalloc.start()
    before = time.process_time()
    ids, _ = first_ids(tokenizer, Source("query: ", long), count, chunk)
    spent = time.process_time() - before
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    some = tokenizer.encode("query: " + long[: 20 * chunk])
    assert ids[:count] == some[: min(count, len(ids))]
    assert peak < 5_000_000
    assert spent < 2  # reading all of it takes longer; the figures are in docs/running.md
