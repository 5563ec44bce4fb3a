"""The one process that a cluster is compared with. One JSON object a line in, one a line out.

`python -m edge_embed_bench.published.bulk_worker MODEL THREADS`
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.bulk.job import Prompting, embed_file
from edge_embed.bulk.rows import read_parts
from edge_embed_bench.worker.answering import answer_requests

DOCUMENTS = Prompting("document")


class Worker:
    """Answers requests.

    Args:
        path: The model file.
        threads: Threads.
    """

    def __init__(self, path: str, threads: int) -> None:
        self._model = Embedder(path, num_threads=threads)

    def encode(self, folder: str) -> dict[str, Any]:
        """Reads the documents of a folder, and embeds them in one call, which is timed."""
        files = sorted(Path(folder).glob("*.parquet"))
        texts = [text for file in files for part in read_parts(str(file)) for text in part.texts]
        started = time.perf_counter()
        self._model.encode_document(texts, show_progress_bar=False)
        return {"texts": len(texts), "seconds": time.perf_counter() - started}

    def files(self, folder: str, output: str) -> dict[str, Any]:
        """Embeds one file after the other."""
        os.makedirs(output)
        started, texts = time.perf_counter(), 0
        for file in sorted(Path(folder).glob("*.parquet")):
            summary = embed_file(self._model, str(file), Path(output) / file.name, prompting=DOCUMENTS)
            texts += summary.embedded
        return {"texts": texts, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    answer_requests(lambda: Worker(sys.argv[1], int(sys.argv[2])))
