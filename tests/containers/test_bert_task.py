"""MediaPipe's own WordPiece is not BERT's: the reason why a BERT model is not exported as a `.task`."""

from __future__ import annotations

from pathlib import Path

from edge_embed import Embedder
from edge_embed.model_file.file import ModelFile
from edge_embed_bench.published.bert_task import cosines, write_task

BERT = Path(__file__).parents[1] / "golden" / "schema1" / "bert.tflite"


def test_only_texts_of_ascii_are_sure_to_get_the_same_vector(tmp_path: Path) -> None:
    file = ModelFile.open(BERT)
    write_task(file, file.manifest.buckets[-1], tmp_path / "bert.tflite")
    with Embedder(BERT) as model:
        plain, accents = cosines(model, tmp_path / "bert.tflite", ["The red Planet", "Élan é über Ärger"])
    assert plain > 0.9999
    assert accents < 0.9999
