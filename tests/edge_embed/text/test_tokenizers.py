"""Text to ids: both kinds of tokenizer, and texts that no one expects."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.errors import InputError, TokenizerError
from edge_embed.text.inputs import check_text
from edge_embed.text.tokenizers import load_tokenizer


@pytest.fixture(params=["wordpiece", "sentencepiece_bpe"])
def stored(request):
    return request.getfixturevalue(request.param)


def test_content_ids_only(stored):
    record, data = stored
    ids = load_tokenizer(record, data).encode("the red planet")
    assert ids
    assert not set(ids) & {*record.prefix_ids, *record.suffix_ids, record.pad_id}


def test_the_truncation_in_the_file_is_undone(stored):
    record, data = stored
    assert len(load_tokenizer(record, data).encode("planet " * 500)) >= 500


@pytest.mark.parametrize(
    "text", ["", " ", "\t\n ", "🙂", "\0", "a\0b", "é", "ЖЫ", "日本語", "x" * 5000, "\u200b"]
)
def test_unusual_texts_become_ids_of_the_vocabulary(stored, text):
    record, data = stored
    assert all(0 <= i < record.vocab_size for i in load_tokenizer(record, data).encode(text))


def test_special_tokens_in_the_text_become_their_ids(wordpiece, sentencepiece_bpe):
    assert load_tokenizer(*wordpiece).encode("[SEP] [MASK]")[0] == 3
    gemma = load_tokenizer(*sentencepiece_bpe)
    assert gemma.encode("<eos>") == [1]
    assert gemma.encode("red<bos>red") == [*gemma.encode("red"), 2, *gemma.encode("red")]


def test_sentencepiece_bytes_where_no_piece_fits(sentencepiece_bpe):
    assert len(load_tokenizer(*sentencepiece_bpe).encode("🙂")) == 4


def test_lowercase(sentencepiece_bpe):
    record, data = sentencepiece_bpe
    upper = load_tokenizer(replace(record, lowercase=True), data).encode("RED")
    assert upper == load_tokenizer(record, data).encode("red") != load_tokenizer(record, data).encode("RED")


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe\0", b"nonsense" * 100])
def test_unreadable_tokenizers(stored, data):
    with pytest.raises(TokenizerError, match="cannot be read"):
        load_tokenizer(stored[0], data)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_tokenizers_do_not_crash(stored, share):
    record, data = stored
    try:
        load_tokenizer(record, data[: int(len(data) * share)]).encode("the red planet")
    except TokenizerError:
        return
    assert record.kind == "sentencepiece"  # a protobuf may end at a field; the file's hash is what guards it


def test_an_unknown_kind(wordpiece):
    with pytest.raises(TokenizerError, match="unknown kind"):
        load_tokenizer(replace(wordpiece[0], kind="magic"), wordpiece[1])


@pytest.mark.parametrize("item", [None, 3, 1.5, b"bytes", ["nested"], object()])
def test_items_that_are_no_text(item):
    with pytest.raises(InputError, match="item 4 is not a text") as caught:
        check_text(item, 4)
    assert type(item).__name__ in str(caught.value)


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_a_lone_surrogate_is_named_and_everything_else_passes(text):
    place = next((i for i, c in enumerate(text) if 0xD800 <= ord(c) < 0xE000), None)
    if place is None:
        assert check_text(text, 0) is text
    else:
        with pytest.raises(InputError, match=f"position {place}"):
            check_text(text, 0)


def test_only_berts_wordpiece_reads_words_one_by_one(wordpiece, sentencepiece_bpe):
    tokenizer = load_tokenizer(*wordpiece)
    assert not tokenizer.joins_words
    text = " the red-planet\n\n known as mars, "
    assert tokenizer.encode(text) == [token for word in text.split() for token in tokenizer.encode(word)]
    assert load_tokenizer(*sentencepiece_bpe).joins_words
