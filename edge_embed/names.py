"""Names that several parts of the project share: what options may be, and how a model file calls its parts.

Everything here is a plain constant. The module imports nothing but `typing`, so that the help of a command
may use it without loading numpy.
"""

from __future__ import annotations

from typing import Literal

Overflow = Literal["truncate", "error", "mean"]
OVERFLOWS: dict[Overflow, str] = {
    "truncate": "cut it and warn",
    "error": "refuse it",
    "mean": "average its parts",
}
"""What can be done with a text that is longer than the model: each policy's name, and its description in the
help of commands."""

ACCELERATORS = ("cpu", "gpu", "npu", "auto")
"""What may run the graph. "auto" is the first of npu, gpu and cpu that works."""

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
"""The similarity functions of sentence-transformers."""

SEARCH_MODES = ("hybrid", "vector", "text")
"""How an index is searched: by meaning and words, by meaning, or by words."""

STORED_VECTORS = ("int8", "float32")
"""What an index stores of each vector. float32 is kept beside int8."""

LEXICAL = ("auto", "words", "trigrams")
"""How an index finds words. "auto" is decided by the first documents."""

QUERY_PROMPTS = ("query",)
"""Names of the prompt for queries, in the order in which `Embedder.encode_query` looks for them."""

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of the prompt for documents, in the order in which `Embedder.encode_document` looks for them."""

MANIFEST_NAME = "edge_embed.json"
"""The zip member with the manifest."""

PROBES_NAME = "probes.json"
"""The zip member with the texts that the file was verified with."""

SENTENCEPIECE, UNIGRAM, TOKENIZERS = "sentencepiece", "unigram", "tokenizers"
TOKENIZER_KINDS = (SENTENCEPIECE, UNIGRAM, TOKENIZERS)
"""How a model's tokenizer is read: by SentencePiece alone, by SentencePiece word by word after a
normalization of its own (see text/unigram.py), or by the tokenizers library."""

TFLITE_IDENTIFIER = b"TFL3"
"""The bytes 4 to 8 of a LiteRT flatbuffer, which TFLite's schema calls its file identifier."""

INPUT_NAME = "tokens"
"""The only input of each signature: token ids, int32, ``(1, length)``."""

OUTPUT_NAME = "embedding"
"""The only output of each signature: float32, ``(1, dimension)``."""


def signature_name(length: int) -> str:
    """Returns the name of the signature that takes `length` tokens."""
    return f"embed_{length}"
