"""The stage `adapt`: a Gemma 3 decoder in, a sentence encoder that is not yet trained for sentences out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_train.adapt.loop import run_steps
from edge_embed_train.adapt.mapping import encoder_decoder, encoder_of
from edge_embed_train.adapt.ul2 import corrupt, draw_task
from edge_embed_train.data import Source, read_rows

if TYPE_CHECKING:
    from edge_embed_train.recipe import AdaptStage, Recipe
    from edge_embed_train.run.folder import RunFolder

SENTINELS = 32
"""How many ids stand for spans: more than any text of some hundred tokens has."""

IGNORED = -100
"""The label that a loss leaves out."""

WIDER = 4
"""How many times wider than the encoder the first Dense module of EmbeddingGemma is."""


def adapt(recipe: Recipe, stage: AdaptStage, place: str | Path, target: Path, folder: RunFolder) -> Path:
    """Runs the stage.

    Args:
        recipe: The recipe.
        stage: The stage.
        place: The decoder, a transformers directory with its tokenizer.
        target: The stage's directory; its `model` becomes the encoder.
        folder: The folder of the run.

    Raises:
        CheckpointError: If the decoder is no Gemma 3.
        InputError: If it cannot be loaded, or the texts are too few.
        TrainingError: If the loss is not a number.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(recipe.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        decoder = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"the decoder {place} cannot be loaded", got=str(error)[:200]) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stream = token_stream([recipe.data[name].source for name in stage.data], tokenizer, target / "tokens.npy")
    if len(stream) <= stage.length:
        raise InputError(
            "the texts are too few to adapt a decoder",
            got=f"{len(stream)} tokens",
            expected=f"more than {stage.length}",
        )
    batches = Batches(stream, stage, recipe.seed, tokenizer, device)
    if stage.decoder_steps:
        decoder.to(device)
        run_steps(
            decoder,
            lambda step: batches.causal_loss(decoder, step),
            steps=stage.decoder_steps,
            learning_rate=stage.learning_rate,
            state=target / "decoder.pt",
            label=f"{stage.name}: decoder",
            log=_logger(folder, f"{stage.name}: decoder"),
        )
    both = encoder_decoder(decoder).to(device)
    run_steps(
        both,
        lambda step: batches.ul2_loss(both, step),
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        state=target / "ul2.pt",
        label=f"{stage.name}: UL2",
        log=_logger(folder, f"{stage.name}: UL2"),
    )
    write_encoder(encoder_of(both.cpu(), decoder.config), tokenizer, stage, target)
    return target / "model"


def _logger(folder: RunFolder, key: str) -> Callable[..., None]:
    return lambda **record: folder.log(stage=key, **record)


def write_encoder(encoder: Any, tokenizer: Any, stage: AdaptStage, target: Path) -> None:
    """Writes an encoder with pooling, two Dense modules and normalization as a checkpoint."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    from edge_embed_train.run.training import save_model

    bare = target / "encoder"
    encoder.save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    longest = min(stage.max_tokens, encoder.config.max_position_embeddings)
    transformer = Transformer(str(bare), max_seq_length=longest)
    width = encoder.config.hidden_size
    widths = [width, *(stage.dense or (WIDER * width, width))]
    modules = [transformer, Pooling(width, pooling_mode=stage.pooling)]
    for before, after in pairwise(widths):
        modules.append(Dense(before, after, bias=False, activation_function=torch.nn.Identity()))
    model = SentenceTransformer(modules=[*modules, Normalize()], device="cpu")
    save_model(model, target / "model")


def token_stream(sources: Sequence[Source], tokenizer: Any, path: Path) -> npt.NDArray[np.int32]:
    """Returns all texts as one row of tokens, each text ended, from disk if an earlier run has written it."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        end = end_id(tokenizer)
        parts = []
        with progress_bar(None, "reading texts") as advance:
            for source in sources:
                for row in read_rows(source):
                    for text in row.texts:
                        parts.append([*tokenizer.encode(text, add_special_tokens=False), end])
                    advance(1)
        scratch = path.with_suffix(".part.npy")
        np.save(scratch, np.concatenate(parts).astype(np.int32))
        scratch.rename(path)
    stream: npt.NDArray[np.int32] = np.load(path, mmap_mode="r")
    return stream


def end_id(tokenizer: Any) -> int:
    """Returns the id that ends a text."""
    for found in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        if found is not None:
            return int(found)
    raise InputError("the decoder's tokenizer has no token that ends a text")


class Batches:
    """Batches for both losses. A batch depends on the seed and the step's number alone.

    Args:
        stream: All tokens.
        stage: The stage.
        seed: The seed of the random draws.
        tokenizer: The tokenizer of the decoder.
        device: The device that batches are put on.
    """

    def __init__(
        self,
        stream: npt.NDArray[np.int32],
        stage: AdaptStage,
        seed: int,
        tokenizer: Any,
        device: torch.device,
    ) -> None:
        self._stream, self._stage, self._seed, self._device = stream, stage, seed, device
        self._pad = tokenizer.pad_token_id or 0
        self._end = end_id(tokenizer)
        self._start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else self._pad
        # Tokens that no text needs, as Gemma's <unused0>; else the last of the vocabulary.
        size = len(tokenizer)
        named = [tokenizer.convert_tokens_to_ids(f"<unused{n}>") for n in range(SENTINELS)]
        unused = [n for n in named if n is not None and n != tokenizer.unk_token_id]
        self._sentinels = unused or list(range(size - min(SENTINELS, size // 8), size))

    def causal_loss(self, decoder: Any, step: int) -> Tensor:
        """Returns the loss of the next tokens."""
        rows, _ = self._rows(step)
        ids = torch.tensor(np.stack(rows), dtype=torch.long, device=self._device)
        loss: Tensor = decoder(input_ids=ids, labels=ids).loss
        return loss

    def ul2_loss(self, model: Any, step: int) -> Tensor:
        """Returns the loss of the tokens that were taken out."""
        rows, generator = self._rows(step)
        pairs = [
            corrupt(row.tolist(), draw_task(generator), self._sentinels, self._end, generator) for row in rows
        ]
        inputs = self._padded([pair[0] for pair in pairs], self._pad)
        targets = self._padded([pair[1] for pair in pairs], IGNORED)
        written = self._padded([[self._start, *pair[1][:-1]] for pair in pairs], self._pad)
        loss: Tensor = model(
            input_ids=inputs,
            attention_mask=(inputs != self._pad).long(),
            decoder_input_ids=written,
            labels=targets,
        ).loss
        return loss

    def _rows(self, step: int) -> tuple[list[npt.NDArray[np.int32]], np.random.Generator]:
        generator = np.random.default_rng([self._seed, step])
        length = self._stage.length
        starts = generator.integers(0, len(self._stream) - length, self._stage.batch_size)
        return [self._stream[start : start + length] for start in starts], generator

    def _padded(self, rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filler)
        return padded.to(self._device)
