"""What the containers are called, and the constants that their readers fix."""

from __future__ import annotations

PAIR, TASK, LITERTLM = "pair", "task", "litertlm"
CONTAINERS = (TASK, LITERTLM, PAIR)
"""The containers that can be written."""

EXTRA = "containers"
"""The extra that brings Google's wheels."""

TOKENIZER_MEMBER = "sentencepiece.model"
"""The tokenizer in a `.task`, by which MediaPipe knows that it is one of SentencePiece's."""

PAIR_TOKENIZER = "sentencepiece.model"
"""The tokenizer's file of a pair."""

PAD, EOS, BOS = 0, 1, 2
"""The ids that readers of a pair put around a text, as Gemma's tokenizer numbers them."""

LEAST_COSINE = 0.9999
"""What a container's vector must reach against the model file's own, for each probe."""
