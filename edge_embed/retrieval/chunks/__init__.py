"""Documents cut into chunks by the model's own tokens.

For others: `cut` and `Chunk`; `KINDS` of text; `TokenCounter`, which makes counting fast; `Sizes` and
`sizes_for`, which choose sizes that a model can take; and `chunk_title`, which makes the title of a chunk of
the document's title and the headings above it.
"""

from edge_embed.retrieval.chunks.counting import Count, TokenCounter
from edge_embed.retrieval.chunks.cutting import SMALLEST, Chunk, check_size, cut
from edge_embed.retrieval.chunks.outline import KINDS
from edge_embed.retrieval.chunks.sizes import Sizes, chunk_title, sizes_for

__all__ = [
    "KINDS",
    "SMALLEST",
    "Chunk",
    "Count",
    "Sizes",
    "TokenCounter",
    "check_size",
    "chunk_title",
    "cut",
    "sizes_for",
]
