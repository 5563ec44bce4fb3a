"""Small tokenizers of several kinds, and how they are written beside a configuration."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source import sentencepiece_bpe
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS
from edge_embed_convert.source.tokenizers import ConvertedTokenizer

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>")
RUNS = tuple(char * n for char in "\n\t\u2581" for n in range(5, 1, -1))
CORPUS = (
    "the cat sat on the mat and the hat, then the cat sat and sat",
    "banana bandana ananas nana na na na naan",
    "  indented  text    with   runs  of  spaces\n\n\n and\t\ttabs",
    "кот сидел на окне и смотрел на котов",
    "今天天气很好 天天向上 今天",
    "été été école côté à côté de l'été",
) * 4


@functools.cache
def small_bpe() -> str:
    """A byte-fallback BPE laid out as Gemma's, trained here; every way to split a piece is a merge."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=260, show_progress=False, max_token_length=8)
    trained.train_from_iterator(CORPUS, trainer)
    learned = sorted(trained.get_vocab(), key=trained.token_to_id)
    # What training leaves out once a longer piece is there: other ways to come to it.
    learned += sorted({p[k:] for p in learned for k in range(1, len(p) - 1)} - set(learned))
    alphabet = sorted({*"\n\t\u2581", *"".join(learned)})
    words = [p for p in learned if len(p) > 1 and p not in RUNS]
    pieces = [*SPECIAL, *RUNS, *(f"<0x{b:02X}>" for b in range(256)), *alphabet, *words]
    # Runs merge first, as in Gemma; then the pieces in the order in which they were learned.
    known = set(pieces)
    merges = [[p[:k], p[k:]] for p in (*RUNS, *words) for k in range(1, len(p)) if {p[:k], p[k:]} <= known]
    added = [
        {
            "id": i,
            "content": p,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": p in SPECIAL,
        }
        for i, p in enumerate(pieces[: len(SPECIAL) + len(RUNS)])
    ]
    bos, eos = (
        {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]} for token in ("<bos>", "<eos>")
    )
    around = [
        {"SpecialToken": {"id": "<bos>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<eos>", "type_id": 0}},
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "MergedWithPrevious",
                "invert": False,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": around,
                "pair": around,
                "special_tokens": {"<bos>": bos, "<eos>": eos},
            },
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "<unk>",
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": {piece: i for i, piece in enumerate(pieces)},
                "merges": merges,
            },
        }
    )


def small_spec() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(small_bpe())
    return spec


def small_size() -> int:
    return len(small_spec()["model"]["vocab"])


def write(
    directory: Path, tokenizer: Any = None, *, config: dict[str, Any] | None = None, **files: Any
) -> Path:
    directory.mkdir(exist_ok=True)
    config = {"vocab_size": small_size(), "pad_token_id": 0} if config is None else config
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    if tokenizer is not None:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value), "utf-8")
    return directory


def word_piece() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "a", "b", ",", "é"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(words[:5])
    return tokenizer


def unigram() -> Tokenizer:
    pieces = [
        ("<s>", 0.0),
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        ("a", -3.0),
        ("ab", -3.5),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def agrees(converted: ConvertedTokenizer, source: Tokenizer, texts: Any = HOSTILE_TEXTS) -> bool:
    encode = load_tokenizer(converted.record, converted.data).encode
    return all(encode(text) == source.encode(text, add_special_tokens=False).ids for text in texts)


@functools.cache
def pair() -> tuple[Tokenizer, Any]:
    data = sentencepiece_bpe.build(small_spec())
    record = TokenizerRecord("tokenizer.model", "sentencepiece", "", False, 0, [2], [1], small_size())
    return Tokenizer.from_str(small_bpe()), load_tokenizer(record, data)


def sentencepiece_model() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=360,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()
