"""Words in many scripts: what the index holds is found by the same words in a query."""

from __future__ import annotations

import pytest

from edge_embed.retrieval.documents import check_document
from edge_embed.retrieval.indexing import choose_lexical
from edge_embed.retrieval.search.lexical import fold, terms_of


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Das Glas ist voll Äpfel", "apfel"),
        ("Das Glas ist voll Apfel", "ÄPFEL"),
        ("crème brûlée", "creme brulee"),
        ("한국 음식", "한국"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("ＲＥＤ planet", "ｒｅｄ"),  # noqa: RUF001 - full-width letters
        ("the ﬁne print", "ﬁne"),
        ("Ελληνικά κείμενα", "ΕΛΛΗΝΙΚΆ"),
        ("русский ёж", "Ёж"),
        ("İstanbul", "İstanbul"),
        ("don't stop", "don't"),
        ("version 2.41", "2.41"),
        ("snake_case name", "snake_case"),
        ("C++ and C#", "C++"),
        ("שלום עולם", "שלום"),
        ("كِتَاب", "كِتَاب"),
    ],
)
def test_found_as_written_or_without_diacritics(index, text, query):
    index.add([{"id": "a", "text": text}, {"id": "b", "text": "nothing of it"}])
    assert [hit.document_id for hit in index.search(query, mode="text")] == ["a"]


def test_scripts_without_spaces_are_found_by_trigrams(index):
    index.add([{"id": "mars", "text": "火星是红色的行星。"}, {"id": "venus", "text": "金星很热。"}])
    assert index.stats().lexical == "trigrams"
    hits = index.search("为什么是红色的", mode="text")
    assert [hit.document_id for hit in hits] == ["mars"]
    assert "**" in hits[0].snippet


def test_the_first_documents_choose(index, path, stub):
    index.add([{"id": "a", "text": "Some words"}])
    assert index.stats().lexical == "words"
    index.add([{"id": "b", "text": "火星是红色的行星。" * 50}])
    assert index.stats().lexical == "words"
    thai = check_document({"id": "a", "text": "ดาวอังคารเป็นสีแดง"}, 0)
    assert choose_lexical([thai]) == "trigrams"
    assert choose_lexical([check_document({"id": "a", "text": "123 456"}, 0)]) == "words"


def test_terms_are_each_there_once():
    assert terms_of("Red red RÉD planet", "words") == ["Red", "planet"]
    assert terms_of("abcd bcd", "trigrams") == ["abc", "bcd"]
    assert terms_of("ab", "trigrams") == []
    assert fold("ÄÖ한İ") == "ao한i"


def test_common_words_are_left_out_where_others_say_more(index):
    index.add(
        [{"id": f"{n}", "text": f"galaxy number {n} " + ("quasar" if n % 40 == 0 else "")} for n in range(80)]
    )
    hits = index.search("galaxy quasar", 50, mode="text")
    assert {hit.document_id for hit in hits} == {"0", "40"}
    assert len(index.search("galaxy", 50, mode="text")) == 50
