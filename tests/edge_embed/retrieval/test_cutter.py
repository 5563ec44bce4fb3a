"""What the index embeds: chunks of the model's own tokens, with titles that fit beside them."""

from types import SimpleNamespace

from edge_embed.retrieval.cutter import Cutter, default_sizes
from edge_embed.retrieval.documents import check_document


class Words:
    """A tokenizer of one token a word."""

    joins_words = False

    def encode(self, text):
        return text.split()


class Model:
    tokenizer = Words()
    manifest = SimpleNamespace(
        name="tiny",
        max_tokens=32,
        prompts={"document": "title: none | text: "},
        default_prompt_name=None,
        tokenizer=SimpleNamespace(prefix_ids=[2], suffix_ids=[3]),
    )


def test_chunk_prompt_title_and_special_tokens_fill_the_model_and_no_more():
    model = Model()
    size, overlap = default_sizes(model, None, None)
    assert (size, overlap) == (23, 2)  # 32 - 2 special tokens - 4 of the prompt - 3 for the title
    text = (
        "# Tools\n\n## The large hammer in the shed\n\n" + "It hits a nail and then it hits another one. " * 8
    )
    source = check_document({"id": "a", "text": text, "title": "All of my things", "kind": "markdown"}, 0)
    chunks, titles = Cutter(model, size, overlap).cut(source)
    assert len(chunks) > 3
    assert chunks[-1].headings == ("Tools", "The large hammer in the shed")
    assert titles[-1] == "The large hammer"
    assert all(
        2 + 4 + len(title.split()) + chunk.tokens <= 32 for title, chunk in zip(titles, chunks, strict=True)
    )
