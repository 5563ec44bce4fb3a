"""Smaller vocabularies give covered texts the same tokens, whatever else they lose."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from edge_embed.errors import CheckpointError, InputError
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.trim.choose import Chooser
from edge_embed_convert.trim.tokens import Form, Tokens
from edge_embed_convert.trim.vocabularies import Vocabulary, read_vocabulary


def _bpe() -> dict[str, Any]:
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False)
    )
    return json.loads(trained.to_str())


def _unigram() -> dict[str, Any]:
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        SENTENCES,
        trainers.UnigramTrainer(
            vocab_size=500, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False
        ),
    )
    return json.loads(trained.to_str())


def _wordpiece() -> dict[str, Any]:
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    latin = [text for text in SENTENCES if text.isascii()]
    trained.train_from_iterator(
        latin,
        trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[PAD]"], show_progress=False),
    )
    return json.loads(trained.to_str())


SPECS = {"BPE": _bpe(), "Unigram": _unigram(), "WordPiece": _wordpiece()}
TOKENIZERS = {kind: Tokenizer.from_str(json.dumps(spec)) for kind, spec in SPECS.items()}


def _tokens(kind: str, vocabulary: Vocabulary) -> Tokens:
    return Tokens(Tokenizer.from_str(json.dumps(SPECS[kind])), vocabulary=vocabulary, prompts=())


def _smaller(vocabulary: Vocabulary, kept: set[int]) -> tuple[Tokenizer, dict[int, int]]:
    moved = {old: new for new, old in enumerate(sorted(kept))}
    return Tokenizer.from_str(json.dumps(vocabulary.trimmed(moved))), moved


WORDS = st.lists(
    st.sampled_from(sorted({word for text in SENTENCES for word in text.split()})), min_size=1, max_size=12
)
TEXTS = st.one_of(WORDS.map(" ".join), st.text(alphabet="abcdefghinorstu  .Äß漢", min_size=1, max_size=30))


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=60, deadline=None)
@given(given_texts=st.lists(TEXTS, min_size=1, max_size=5), others=st.lists(TEXTS, max_size=5))
def test_covered_texts_keep_their_tokens(kind: str, given_texts: list[str], others: list[str]) -> None:
    vocabulary = read_vocabulary(SPECS[kind])
    tokens = _tokens(kind, vocabulary)
    chooser = Chooser(vocabulary, len(vocabulary.ids), ())
    forms = [found[0] for found in tokens.forms(given_texts)]
    counts = {"-": Counter(i for form in forms for i in form.needed)}
    kept = chooser.choose(counts, (), None)
    smaller, moved = _smaller(vocabulary, kept)
    covered: list[Form] = [*forms]
    covered += [found[0] for found in tokens.forms(others) if found[0].needed <= kept]
    assert all(form.needed <= kept for form in forms)
    for form in covered:
        assert smaller.encode(form.text).ids == [moved[i] for i in form.ids]


@pytest.mark.parametrize("kind", SPECS)
def test_what_is_not_needed_goes(kind: str) -> None:
    vocabulary = read_vocabulary(SPECS[kind])
    tokens = _tokens(kind, vocabulary)
    (forms,) = tokens.forms(["The ferry"])
    kept = Chooser(vocabulary, len(vocabulary.ids), ()).choose({"-": Counter(forms[0].needed)}, (), None)
    assert len(kept) < 0.2 * len(vocabulary.ids)


def test_an_unknown_word_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = ["[UNK]", "[PAD]", "ab", "a", "##bX", "##b", "c"]
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    spec = json.loads(Tokenizer(model).to_str()) | {"pre_tokenizer": {"type": "BertPreTokenizer"}}
    monkeypatch.setitem(SPECS, "made", spec)
    vocabulary = read_vocabulary(spec)
    ((form,),) = _tokens("made", vocabulary).forms(["abX"])
    # The longest piece leads to a place where nothing fits.
    assert form.ids == (0,)
    assert form.needed == {0, 2}
    smaller, moved = _smaller(vocabulary, {0, 2, 3, 4})
    assert smaller.encode("abX").ids == [moved[0]]
    # Without it, shorter pieces would make the word.
    smaller, moved = _smaller(vocabulary, {0, 3, 4})
    assert smaller.encode("abX").ids == [moved[3], moved[4]]


def test_bpe_without_the_path_of_a_token_would_change_it() -> None:
    vocabulary = read_vocabulary(SPECS["BPE"])
    long = max(vocabulary.ids.values(), key=lambda index: len(vocabulary.names[index]))
    needed = set(vocabulary.needs(long))
    assert len(needed) > 2
    text = vocabulary.names[long].replace("\u2581", " ")
    whole, moved = _smaller(vocabulary, needed | vocabulary.always)
    assert whole.encode(text).ids == [moved[long]]
    step = max(needed - {long}, key=lambda index: len(vocabulary.names[index]))
    broken, moved = _smaller(vocabulary, (needed | vocabulary.always) - {step})
    assert broken.encode(text).ids != [moved[long]]


def test_a_unigram_keeps_the_score_of_unknown_characters() -> None:
    vocabulary = read_vocabulary(SPECS["Unigram"])
    pieces = vocabulary.spec["model"]["vocab"]
    smaller, _ = _smaller(vocabulary, vocabulary.always | {2, 3})
    kept = json.loads(smaller.to_str())["model"]["vocab"]
    assert min(score for _, score in kept) == min(score for _, score in pieces)


def test_a_budget_is_kept_and_filled() -> None:
    vocabulary = read_vocabulary(SPECS["BPE"])
    chooser = Chooser(vocabulary, len(vocabulary.ids), ())
    counts = {"en": Counter(TOKENIZERS["BPE"].encode("The ferry leaves at seven").ids)}
    small, large = (chooser.choose(counts, (), most) for most in (40, 200))
    assert len(small) <= 40
    assert 40 < len(large) <= 200
    with pytest.raises(InputError, match="no room"):
        chooser.choose(counts, range(30), 5)


def test_other_kinds_are_refused() -> None:
    spec = json.loads(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())
    with pytest.raises(CheckpointError, match="cannot be trimmed exactly"):
        read_vocabulary(spec)
    odd = json.loads(json.dumps(SPECS["BPE"]))
    odd["model"]["end_of_word_suffix"] = "</w>"
    with pytest.raises(CheckpointError, match="end_of_word_suffix"):
        read_vocabulary(odd)
