"""Retrieval on the device: documents in one SQLite file, found by meaning and by words.

For others: `Index`, and what it takes and gives: `Document`, `Hit`, `AddResult`, `Stats`, `Encoder`. The
module `files` has what `Index.add_files` returns, `context` what `Index.context` returns. The rooms `chunks`
and `readers` say themselves what they offer; `store` (the file) and `search` (from a query to hits) are this
package's own.
"""

from edge_embed.retrieval.index import Index
from edge_embed.retrieval.store.settings import Encoder
from edge_embed.retrieval.types import AddResult, Document, Hit, Stats

__all__ = ["AddResult", "Document", "Encoder", "Hit", "Index", "Stats"]
