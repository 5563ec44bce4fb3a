"""The pad id: the tokenizer's own word comes before the default that config.json repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edge_embed_convert.source.tokenizers import convert_tokenizer

WORDS = ["red", "planet", "mars", "##s"]


@pytest.mark.parametrize(
    ("front", "pad"),
    [(["<s>", "<pad>", "</s>", "<unk>"], "<pad>"), (["the", "[UNK]", "[CLS]", "[SEP]", "[PAD]"], "[PAD]")],
    ids=["as XLM-R orders them", "a word at 0"],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_config_says_zero_and_the_tokenizer_knows_better(
    front: list[str], pad: str, name: str, tmp_path: Path
) -> None:
    vocabulary = {word: index for index, word in enumerate([*front, *WORDS])}
    unknown = next(w for w in front if "unk" in w.lower())
    first, last = (front[0], front[2]) if pad == "<pad>" else ("[CLS]", "[SEP]")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([w for w in front if w[0] in "<["])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(w, vocabulary[w]) for w in (first, last)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_text(json.dumps({"pad_token": pad}), "utf-8")
    config = {"vocab_size": len(vocabulary), "pad_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert convert_tokenizer(tmp_path).record.pad_id == vocabulary[pad]
