"""Make a small student of a teacher: its words, a few layers, its dimension.

The tokenizer is the teacher's WordPiece, cut to the pieces that the texts use most. The layers are random
ones of Gemma 3's shape, and the token table is the first principal components of the teacher's own. Or the
layers are some of the teacher's, with its token table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edge_embed.errors import CheckpointError, InputError
from edge_embed.progress import progress_bar
from edge_embed_train.data import build_table
from edge_embed_train.rotate import dense_module
from edge_embed_train.shortened import shortened_bert

if TYPE_CHECKING:
    from edge_embed_train.recipe import Recipe, StudentStage
    from edge_embed_train.run.folder import RunFolder
    from edge_embed_train.run.inputs import Teacher

BATCH = 1024
"""Texts that are tokenized together."""

TABLE_SCALE = 0.05
"""Standard deviation of the token table at the beginning; Gemma multiplies it by the square root of the
width.
"""

SPECIAL = ("pad", "unk", "cls", "sep", "mask")
"""BERT's special tokens, as transformers names them."""

HEAD = 100
"""Where Zipf's law begins: the most frequent words are rarer than it says."""

WINDOW = 512
"""As EmbeddingGemma's: longer than any input of the student, so every token sees every other."""


def make_student(
    recipe: Recipe, stage: StudentStage, teacher: Teacher, target: Path, folder: RunFolder
) -> Path:
    """Writes the student, not yet trained.

    Args:
        recipe: The recipe.
        stage: Its shape.
        teacher: A sentence-transformers model with a WordPiece tokenizer.
        target: The checkpoint to write.
        folder: Of the run.

    Raises:
        CheckpointError: If the teacher's tokenizer is no WordPiece.
        InputError: If the shape does not fit the teacher.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    from edge_embed_train.run.inputs import teacher_axes
    from edge_embed_train.run.training import save_model

    torch.manual_seed(recipe.seed)
    model = SentenceTransformer(teacher.name, device="cpu")
    dimension = int(model.get_embedding_dimension())
    table: Tensor = model[0].model.get_input_embeddings().weight.detach().float()
    if not stage.keep_layers and (not stage.dense or stage.dense[-1] != dimension):
        raise InputError(
            "the student's last Dense module does not give the teacher's dimension",
            got=str(stage.dense[-1] if stage.dense else stage.hidden),
            expected=str(dimension),
        )
    if not stage.keep_layers and stage.hidden > table.shape[1]:
        raise InputError(
            "the student is wider than the teacher's token table",
            got=str(stage.hidden),
            expected=f"at most {table.shape[1]}",
        )
    tables = [build_table(n, recipe.data[n].source, folder.data, lambda _: None) for n in stage.data]
    texts = (table.texts(column) for table in tables for column in table.columns)
    kept, spec = cut_vocabulary(model.tokenizer, texts, stage.vocabulary, stage.characters, stage.prior)
    if stage.keep_layers:
        encoder, after = shortened_bert(model[0].model, stage, kept), list(model)[1:]
    else:
        encoder, after = _encoder(stage, spec, principal_components(table, stage.hidden)[kept]), _after(stage)
    if stage.rotate:
        turning = dense_module(teacher_axes(recipe, stage, folder, teacher))
        after.insert(len(after) - isinstance(after[-1], Normalize), turning)
    student = _assembled(encoder, spec, stage.max_tokens, after, target.parent)
    save_model(student, target)
    return target


def cut_vocabulary(
    tokenizer: Any,
    texts: Iterable[Sequence[str]],
    size: int,
    characters: str = "all",
    prior: float = 0.0,
) -> tuple[list[int], dict[str, Any]]:
    """Returns the ids of the pieces that are kept, and the cut tokenizer as the content of tokenizer.json.

    Kept are special tokens, single characters, and the pieces that the texts use most.

    Args:
        tokenizer: A fast tokenizer of transformers, WordPiece.
        texts: Sequences of texts.
        size: Pieces to keep.
        characters: Single characters that are kept: `all`, or those that are ASCII or `seen` in the texts.
        prior: How much the tokenizer's own order counts beside the texts, 0 to 1.

    Raises:
        CheckpointError: If the tokenizer is no WordPiece.
    """
    spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"]["type"] != "WordPiece":
        raise CheckpointError(
            "a student needs a teacher with a WordPiece tokenizer",
            got=spec["model"]["type"],
            expected="WordPiece",
        )
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    special = {entry["content"] for entry in spec["added_tokens"]}
    counts: Counter[int] = Counter()
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    with progress_bar(None, "counting pieces") as advance:
        for each in texts:
            for start in range(0, len(each), BATCH):
                part = list(each[start : start + BATCH])
                for encoding in backend.encode_batch_fast(part, add_special_tokens=False):
                    counts.update(encoding.ids)
                advance(len(part))
    unused = {piece for piece in special if piece.startswith("[unused")}

    wanted = _weights(vocabulary, counts, prior)

    def rank(entry: tuple[str, int]) -> tuple[int, float, int]:
        piece, number = entry
        if piece in special and piece not in unused:
            return (0, 0, number)
        character = piece.removeprefix("##")
        if len(character) > 1 or piece in unused:
            return (2, -wanted[number], number)
        kept = characters == "all" or character.isascii() or counts[number] > 0
        return (1 if kept else 3, -wanted[number], number)

    ordered = sorted(vocabulary.items(), key=rank)[:size]
    pieces = sorted(ordered, key=lambda entry: entry[1])  # [PAD] stays 0
    numbers = {piece: number for number, (piece, _) in enumerate(pieces)}
    spec["model"]["vocab"] = numbers
    spec["added_tokens"] = [
        {**entry, "id": numbers[entry["content"]]}
        for entry in spec["added_tokens"]
        if entry["content"] in numbers
    ]
    spec["truncation"] = spec["padding"] = None
    _renumber(spec.get("post_processor"), numbers)
    return [number for _, number in pieces], spec


def _weights(vocabulary: dict[str, int], counts: Counter[int], prior: float) -> dict[int, float]:
    """Returns how much each piece is wanted: its share of the texts, and of a text of Zipf's law.

    BERT's vocabulary has its words in the order of their frequency, after characters and special tokens.
    """
    words = [
        number
        for piece, number in vocabulary.items()
        if len(piece.removeprefix("##")) > 1 and not (piece.startswith("[") and piece.endswith("]"))
    ]
    places = {number: place for place, number in enumerate(sorted(words), HEAD)}
    all_of_it, zipf = max(1, counts.total()), sum(1 / place for place in places.values())
    return {
        number: (1 - prior) * counts[number] / all_of_it
        + (prior / places[number] / zipf if number in places else 0.0)
        for number in vocabulary.values()
    }


def _renumber(processor: dict[str, Any] | None, numbers: dict[str, int]) -> None:
    """Gives the tokens that a post-processor adds their new ids, in place."""
    if processor is None:
        return
    for part in processor.get("processors", []):
        _renumber(part, numbers)
    for key in ("cls", "sep"):  # of BertProcessing
        if isinstance(processor.get(key), list):
            processor[key][1] = numbers[processor[key][0]]
    for token in processor.get("special_tokens", {}).values() if processor.get("special_tokens") else []:
        token["ids"] = [numbers[name] for name in token["tokens"]]


def principal_components(table: Tensor, width: int) -> Tensor:
    """Returns the first principal components of a token table, ``(rows, width)``, of one overall scale."""
    centred = (table - table.mean(0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = centred @ vectors.flip(-1)[:, :width]
    scaled: Tensor = components * (TABLE_SCALE / components.std())
    return scaled.float()


def _encoder(stage: StudentStage, spec: dict[str, Any], table: Tensor) -> Any:
    """Returns an encoder of Gemma 3's shape with random layers."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    vocabulary = spec["model"]["vocab"]
    config = Gemma3TextConfig(
        vocab_size=len(vocabulary),
        hidden_size=stage.hidden,
        intermediate_size=stage.inner,
        num_hidden_layers=stage.layers,
        num_attention_heads=stage.heads,
        num_key_value_heads=1,
        head_dim=stage.head_dim,
        query_pre_attn_scalar=stage.head_dim,
        max_position_embeddings=stage.max_tokens,
        sliding_window=WINDOW,
        layer_types=["full_attention"] * stage.layers,
        use_bidirectional_attention=True,
        pad_token_id=vocabulary["[PAD]"],
        bos_token_id=vocabulary["[CLS]"],
        eos_token_id=vocabulary["[SEP]"],
    )
    encoder = Gemma3TextModel(config)
    with torch.no_grad():
        encoder.embed_tokens.weight.copy_(table)
        encoder.embed_tokens.weight[vocabulary["[PAD]"]] = 0.0
        for layer in encoder.layers:  # Gemma's norms multiply by 1 + weight
            for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
                norm.weight.fill_(stage.layer_gain - 1.0)
    return encoder


def _after(stage: StudentStage) -> list[Any]:
    """Returns the modules after a new encoder: mean pooling, Dense modules, unit length."""
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    modules: list[Any] = [Pooling(stage.hidden, pooling_mode="mean")]
    for before, after in pairwise((stage.hidden, *stage.dense)):
        modules.append(Dense(before, after, bias=False, activation_function=torch.nn.Identity()))
    return [*modules, Normalize()]


def _assembled(encoder: Any, spec: dict[str, Any], max_tokens: int, after: list[Any], scratch: Path) -> Any:
    """Returns an encoder with its tokenizer and the modules after it as a sentence-transformers model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    vocabulary = spec["model"]["vocab"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        model_max_length=max_tokens,
        **{f"{name}_token": f"[{name.upper()}]" for name in SPECIAL if f"[{name.upper()}]" in vocabulary},
    )
    bare = scratch / "encoder"
    encoder.save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    first = Transformer(str(bare), max_seq_length=max_tokens)
    return SentenceTransformer(modules=[first, *after], device="cpu")
