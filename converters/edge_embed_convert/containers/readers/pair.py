"""Reads a pair as the apps do that load one: the first signature, SentencePiece, fixed ids around a text."""

from __future__ import annotations

from pathlib import Path

from edge_embed_convert.containers.names import BOS, EOS, PAD, PAIR_TOKENIZER
from edge_embed_convert.containers.readers.exchange import Vectors, serve


def read(path: str, texts: list[str]) -> Vectors:
    """Yields a vector for each text."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from sentencepiece import SentencePieceProcessor

    directory = Path(path)
    (model,) = directory.glob("*.tflite")
    tokenizer = SentencePieceProcessor(model_file=str(directory / PAIR_TOKENIZER))
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]
    length = int(place["shape"][1])
    for text in texts:
        ids = [BOS, *tokenizer.EncodeAsIds(text), EOS]
        interpreter.set_tensor(place["index"], np.array([ids + [PAD] * (length - len(ids))], dtype=np.int32))
        interpreter.invoke()
        yield interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].tolist()


if __name__ == "__main__":
    serve(read)
