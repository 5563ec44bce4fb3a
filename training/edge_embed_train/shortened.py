"""Make a small student of a BERT teacher by leaving parts of it out: layers, inner neurons, words, positions.

What is kept has the teacher's weights, so that training begins with layers that already read sentences.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edge_embed.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from edge_embed_train.recipe import StudentStage


def shortened_bert(bert: Any, stage: StudentStage, kept: Sequence[int]) -> Any:
    """Returns an encoder with some of a BERT's layers, of their inner neurons, of its words and positions.

    Args:
        bert: transformers' `BertModel`.
        stage: Which.
        kept: Rows of the token table.

    Raises:
        CheckpointError: If the teacher is no BERT.
        InputError: If it lacks a layer.
    """
    from transformers import BertModel

    config = copy.deepcopy(bert.config)
    if config.model_type != "bert":
        raise CheckpointError(
            "only the layers of a BERT can be kept",
            got=f"model_type = {config.model_type!r}",
            expected="'bert'",
        )
    if not all(0 <= layer < config.num_hidden_layers for layer in stage.keep_layers):
        raise InputError(
            "the teacher lacks a layer that the student keeps",
            got=", ".join(map(str, stage.keep_layers)),
            expected=f"0 to {config.num_hidden_layers - 1}",
        )
    config.vocab_size, config.num_hidden_layers = len(kept), len(stage.keep_layers)
    config.intermediate_size = min(stage.inner, config.intermediate_size)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0  # a target for each text: no noise
    config.max_position_embeddings = min(stage.max_tokens, config.max_position_embeddings)
    student = BertModel(config, add_pooling_layer=False)
    theirs = bert.state_dict()
    ours = {name: value for name, value in theirs.items() if name.startswith("embeddings.")}
    for place, number in enumerate(stage.keep_layers):
        begin = f"encoder.layer.{number}."
        layer = {name.removeprefix(begin): v for name, v in theirs.items() if name.startswith(begin)}
        neurons = strongest(layer["intermediate.dense.weight"], layer["output.dense.weight"], stage.inner)
        for name in ("intermediate.dense.weight", "intermediate.dense.bias"):
            layer[name] = layer[name][neurons]
        layer["output.dense.weight"] = layer["output.dense.weight"][:, neurons]
        ours |= {f"encoder.layer.{place}.{name}": value for name, value in layer.items()}
    words, positions = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
    ours[words] = ours[words][list(kept)]
    ours[positions] = ours[positions][: config.max_position_embeddings]
    own = student.state_dict()
    student.load_state_dict(
        {name: ours.get(name, value) for name, value in own.items()}
        | {name: own[name] for name in own if name.endswith(("position_ids", "token_type_ids"))}
    )
    return student


def strongest(inward: Tensor, outward: Tensor, count: int) -> Tensor:
    """Returns which inner neurons have the largest weights, in order.

    Args:
        inward: Weights ``(neurons, width)`` of the first projection.
        outward: Weights ``(width, neurons)`` of the second.
        count: How many.
    """
    strength = inward.norm(dim=1) * outward.norm(dim=0)
    chosen: Tensor = torch.topk(strength, min(count, len(strength))).indices.sort().values
    return chosen
