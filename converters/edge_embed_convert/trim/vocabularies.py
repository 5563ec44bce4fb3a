"""Which tokens a vocabulary can lose without changing the ids of texts that do not use them.

A text is covered if every id that it has is kept, and with it what made that id come out:

- BPE applies merges in the order of their ranks. The merges inside the characters of one final token are
  those that BPE applies to these characters alone, since no merge crosses the ends of a final token. So a
  token needs the pieces on its own path of merges. Then every merge that a covered text needs is there and is
  still the first of those possible, because those possible are fewer.
- A Unigram takes the pieces with the greatest sum of scores. Among fewer pieces the same sum is still the
  greatest, and the first found among equals. An unknown character scores less than the worst piece by a
  constant, so one piece of the worst score stays.
- WordPiece takes the longest piece at each place. Among fewer pieces it is still the longest. In a word that
  ends up unknown, the pieces up to the place where nothing fits are needed too: with a shorter piece the word
  might be known.

Each is proved besides: the trimmed tokenizer is run over the texts.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_embed.errors import CheckpointError

Spec = dict[str, Any]
SPACE, CONTINUATION = "\u2581", "##"
"""What SentencePiece writes for a space, and what WordPiece puts before a piece within a word."""


@dataclass
class Vocabulary:
    """A parsed tokenizer.json, and what its kind asks for.

    Attributes:
        spec: The file's content.
        kind: The kind of its model.
        ids: Every token's id, added tokens included.
        always: Ids that every smaller vocabulary needs besides the special tokens.
        needs: Returns the ids without which a token does not come out of a text.
    """

    spec: Spec
    kind: str
    ids: dict[str, int]
    always: set[int]
    needs: Callable[[int], Iterable[int]]
    names: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = {index: token for token, index in self.ids.items()}

    @property
    def single(self) -> dict[str, int]:
        """Tokens of one character, with and without what marks the beginning or the inside of a word."""
        return {token: index for token, index in self.ids.items() if len(self.letters(token)) == 1}

    def letters(self, token: str) -> str:
        """Returns the characters of a token without those that mark its place in a word."""
        if self.kind == "WordPiece":
            return token.removeprefix(CONTINUATION) if len(token) > len(CONTINUATION) else token
        return token.strip(SPACE) or token[:1]

    def trimmed(self, moved: Mapping[int, int]) -> Spec:
        """Returns the file's content with fewer tokens.

        Args:
            moved: The new id of every token that stays.
        """
        spec = copy.copy(self.spec)
        model = spec["model"] = dict(self.spec["model"])
        spec["added_tokens"] = [
            token | {"id": moved[token["id"]]}
            for token in self.spec.get("added_tokens") or []
            if token["id"] in moved
        ]
        if self.kind == "Unigram":
            pieces = model["vocab"]
            model["vocab"] = [piece for index, piece in enumerate(pieces) if index in moved]
            if model.get("unk_id") is not None:
                model["unk_id"] = moved[model["unk_id"]]
        else:
            model["vocab"] = {token: moved[i] for token, i in model["vocab"].items() if i in moved}
        if self.kind == "BPE":
            kept = model["vocab"].keys()
            model["merges"] = [
                merge
                for merge in model["merges"]
                if {(pair := _pair(merge))[0], pair[1], pair[0] + pair[1]} <= kept
            ]
        spec["post_processor"] = copy.deepcopy(self.spec.get("post_processor"))
        _renumber(spec["post_processor"], moved)
        if padding := self.spec.get("padding"):
            spec["padding"] = padding | {"pad_id": moved.get(padding["pad_id"], 0)}
        return spec


def read_vocabulary(spec: Spec) -> Vocabulary:
    """Returns the vocabulary of a parsed tokenizer.json.

    Raises:
        CheckpointError: If it is of a kind that cannot be trimmed exactly.
    """
    model = spec["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    makers = {"BPE": _bpe, "Unigram": _unigram, "WordPiece": _wordpiece}
    if kind not in makers:
        raise _refusal(f"a {kind} model")
    return makers[kind](spec)


def _bpe(spec: Spec) -> Vocabulary:
    model = spec["model"]
    unusual = [
        key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(key)
    ]
    if unusual:
        raise _refusal(f"a BPE that sets {', '.join(unusual)}")
    vocab: dict[str, int] = model["vocab"]
    ranks = {_pair(merge): rank for rank, merge in enumerate(model["merges"])}
    whole = {token["id"] for token in spec.get("added_tokens") or [] if token["special"]}
    if model.get("byte_fallback"):
        whole |= {vocab[byte] for value in range(256) if (byte := f"<0x{value:02X}>") in vocab}
    # Special tokens and bytes are not made by merges.
    names = {index: token for token, index in vocab.items() if index not in whole}

    def needs(index: int) -> Iterator[int]:
        yield index
        symbols = list(names.get(index, ""))
        while True:
            yield from (vocab[symbol] for symbol in symbols if symbol in vocab)
            pairs = enumerate(itertools.pairwise(symbols))
            rank, place = min(
                ((ranks.get(pair, len(ranks)), i) for i, pair in pairs), default=(len(ranks), 0)
            )
            if rank == len(ranks):
                return
            symbols[place : place + 2] = ["".join(symbols[place : place + 2])]

    always: set[int] = set()
    if model.get("byte_fallback"):
        always |= {vocab[byte] for value in range(256) if (byte := f"<0x{value:02X}>") in vocab}
    if "ByteLevel" in str(spec.get("pre_tokenizer")):
        always |= {index for token, index in vocab.items() if len(token) == 1}  # the alphabet of bytes
    if model.get("unk_token") in vocab:
        always.add(vocab[model["unk_token"]])
    return Vocabulary(spec, "BPE", _all_ids(spec, vocab), always, needs)


def _unigram(spec: Spec) -> Vocabulary:
    pieces: list[tuple[str, float]] = spec["model"]["vocab"]
    vocab = {token: index for index, (token, _) in enumerate(pieces)}
    worst = min(range(len(pieces)), key=lambda index: pieces[index][1])
    always = {worst, *(i for i in [spec["model"].get("unk_id")] if i is not None)}
    if spec["model"].get("byte_fallback"):
        always |= {vocab[byte] for value in range(256) if (byte := f"<0x{value:02X}>") in vocab}
    return Vocabulary(spec, "Unigram", _all_ids(spec, vocab), always, lambda index: (index,))


def _wordpiece(spec: Spec) -> Vocabulary:
    vocab: dict[str, int] = spec["model"]["vocab"]
    if spec["model"].get("continuing_subword_prefix", CONTINUATION) != CONTINUATION:
        raise _refusal("a WordPiece whose prefix is not ##")
    return Vocabulary(
        spec, "WordPiece", _all_ids(spec, vocab), {vocab[spec["model"]["unk_token"]]}, lambda index: (index,)
    )


def _all_ids(spec: Spec, vocab: Mapping[str, int]) -> dict[str, int]:
    return dict(vocab) | {token["content"]: token["id"] for token in spec.get("added_tokens") or []}


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _renumber(processor: Any, moved: Mapping[int, int]) -> None:
    """Changes, in place, the ids that a post-processor writes around a text."""
    if not isinstance(processor, dict):
        return
    for entry in (processor.get("special_tokens") or {}).values():
        entry["ids"] = [moved[i] for i in entry["ids"]]
    for end in ("cls", "sep"):
        if isinstance(processor.get(end), list):
            processor[end] = [processor[end][0], moved[processor[end][1]]]
    for inner in processor.get("processors") or []:
        _renumber(inner, moved)


def _refusal(what: str) -> CheckpointError:
    return CheckpointError(
        "tokenizers of this kind cannot be trimmed exactly",
        got=what,
        expected="BPE, Unigram or WordPiece, as in EmbeddingGemma, XLM-R and BERT",
    )
