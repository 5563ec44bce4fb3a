"""Small tokenizers, made without chance: SentencePiece's BPE and Unigram, XLM-R's Unigram, a WordPiece."""

# ruff: noqa: RUF001 - lookalike characters are what these tokenizers are tried on

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as schema
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from edge_embed_convert.source import sentencepiece_unigram

_CORPUS = (
    "the red planet mars is known as which query document title none text search result task of and water",
    "stone river sings over old green hills while seven small birds fly home before night falls on us all",
    "embeddings turn texts into vectors so that what means the same lies near the same place",
    "Größe straße élan naïve façade über señor niño",
    "красная планета известна как марс",
    "ο κόκκινος πλανήτης είναι ο άρης",
    "赤い惑星 红色的星球 붉은 행성",
    "الكوكب الأحمر هو المريخ",
    "लाल ग्रह मंगल है",
    "0 1 2 3 10 100 1000 3.14 42",
    "def f(x): return x * 2  # code",
)


_RULES = {
    "ﬁ": "fi",
    "①": "1",
    "\u3000": " ",
    "\t": " ",
    "\n": " ",
    "\u212b": "\u00c5",
    "e\u0301": "é",
    "\u200b": "",
    "ｆ": "f",
    "ｕ": "u",
    "ｌ": "l",
    "…": "...",
    "A": "a",
    "\u00a0": " ",
}


def bpe() -> bytes:
    """Returns a SentencePiece BPE model with byte fallback, user-defined and unused pieces."""
    return _sentencepiece(
        "bpe",
        520,
        byte_fallback=True,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<start_of_turn>", "<tag>", "\n\n", "\n\n\n", "\t"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        bos_piece="<bos>",
        eos_piece="<eos>",
        unused=("re", "th", "the"),
    )


def unigram() -> bytes:
    """Returns a SentencePiece Unigram model with its own map of characters and a dummy prefix."""
    with tempfile.TemporaryDirectory() as directory:
        rules = Path(directory) / "rules.tsv"
        rules.write_text("".join(f"{_points(a)}\t{_points(b)}\n" for a, b in _RULES.items()))
        return _sentencepiece(
            "unigram",
            360,
            normalization_rule_tsv=str(rules),
            user_defined_symbols=["<tag>", "▁of▁"],
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            unused=("▁the", "is"),
        )


def graphemes() -> bytes:
    """Returns a Unigram laid out as XLM-R's, read by grapheme clusters and word by word."""
    with tempfile.TemporaryDirectory() as directory:
        rules = Path(directory) / "rules.tsv"
        own = _RULES | {c: chr(ord(c) - 0xFEE0) for c in "＜＞ａｄｋｎｐｓｕ"} | {"\u1112\u1161\u11ab": "한"}
        rules.write_text("".join(f"{_points(a)}\t{_points(b)}\n" for a, b in own.items()))
        data = _sentencepiece("unigram", 380, normalization_rule_tsv=str(rules), unused=())
    proto = schema.ModelProto.FromString(data)
    # Pieces that are repetitions of one string, of which a word may be made up in several orders.
    more = [(piece, -4.25 - len(piece)) for piece in ("i", "ii", "iii", "..", "...", "-", "-3", "3-3")]
    trained = [(p.piece, p.score) for p in proto.pieces if p.type == p.NORMAL]
    pieces = dict(
        [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *trained, *more, ("<mask>", 0.0)]
    )
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ids = {piece: index for index, piece in enumerate(pieces)}
    return sentencepiece_unigram.build(
        {
            "model": {"type": "Unigram", "vocab": list(pieces.items()), "unk_id": 3},
            "added_tokens": [
                {"id": ids[token], "content": token, "special": True, **flags} for token in special
            ],
            "normalizer": {
                "type": "Precompiled",
                "precompiled_charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap),
            },
        }
    )


def wordpiece() -> bytes:
    """Returns BERT's WordPiece as tokenizer.json, with added tokens of every sort that can be read."""
    text = "αδευςσ字中한국'-" + "".join(_CORPUS).lower()
    letters = sorted(set(text) - {" "})
    words = sorted({word for line in _CORPUS for word in line.lower().split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    pieces += [word for word in (*words, "embed", "##ding", "##s", "un", "##able") if word not in pieces]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True)])
    tokenizer.add_tokens([AddedToken("<b>", rstrip=True, normalized=False), "<bb>", "<TAG>"])
    return tokenizer.to_str().encode()


def _sentencepiece(kind: str, size: int, *, unused: tuple[str, ...], **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        minloglevel=2,
        num_threads=1,
        character_coverage=1.0,
        hard_vocab_limit=False,
        **options,
    )
    proto = schema.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.ClearField("normalization_rule_tsv")  # a path of this run
    for piece in proto.pieces:
        if piece.piece in unused:
            piece.type = proto.SentencePiece.UNUSED
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _points(text: str) -> str:
    """Returns a text as the rules of a character map spell it."""
    return " ".join(f"{ord(character):X}" for character in text)
