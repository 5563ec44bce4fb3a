"""Random token ids for measuring, the same for every engine."""

from __future__ import annotations

import numpy as np

from edge_embed.model_file.manifest import TokenizerRecord


def batch(record: TokenizerRecord, length: int, count: int, seed: int) -> list[list[int]]:
    """Returns `count` sequences of exactly `length` ids, with the special tokens in their places.

    The other ids come from the upper three quarters of the vocabulary, where no released tokenizer has
    special tokens, and are never the pad id. A smaller `count` returns the first of the same sequences.
    """
    generator = np.random.default_rng([seed, length])
    room = length - len(record.prefix_ids) - len(record.suffix_ids)
    special = [record.pad_id, *record.prefix_ids, *record.suffix_ids]
    usable = np.setdiff1d(np.arange(record.vocab_size // 4, record.vocab_size), special)
    return [
        [*record.prefix_ids, *(int(i) for i in generator.choice(usable, room)), *record.suffix_ids]
        for _ in range(count)
    ]
