"""A model file's SentencePiece model as Google's readers want it: with the special tokens in its settings.

This project's runtime takes the ids around a text from the manifest. MediaPipe and others ask the
SentencePiece library for them, which finds a piece by its name in the trainer's settings, and only if it is a
control piece.
"""

from __future__ import annotations

from edge_embed.errors import ConversionError
from edge_embed.extras import needs_extra
from edge_embed.model_file.file import ModelFile
from edge_embed.names import TOKENIZERS
from edge_embed_convert.containers.names import EXTRA

_UNKNOWN, _CONTROL = 2, 3


def require_sentencepiece(model: ModelFile, container: str, expected: str) -> None:
    """Refuses a file whose tokenizer is not a SentencePiece model.

    Args:
        model: The file.
        container: What it should become.
        expected: What the error says is expected.

    Raises:
        ConversionError: If it is one of the tokenizers library, such as BERT's WordPiece.
    """
    if model.manifest.tokenizer.kind == TOKENIZERS:
        family = model.manifest.architecture.family
        raise ConversionError(
            f"a {container} cannot hold this {family} model",
            got=f"a tokenizer of the tokenizers library, {model.manifest.tokenizer.file}",
            expected=expected,
            fix="use --to litertlm, whose reader takes a tokenizer.json",
        )


def with_special_tokens(model: ModelFile) -> bytes:
    """Returns the tokenizer with the ids of the manifest in its settings.

    Args:
        model: A file with a SentencePiece tokenizer.

    Raises:
        MissingExtraError: If protobuf is not installed.
        ConversionError: If the file puts more than one id before or after a text.
    """
    with needs_extra(EXTRA, "writing a SentencePiece model"):
        from sentencepiece import sentencepiece_model_pb2 as schema

    record = model.manifest.tokenizer
    proto = schema.ModelProto.FromString(model.read(record.file))
    trainer = proto.trainer_spec
    ends = {"bos": record.prefix_ids, "eos": record.suffix_ids}
    for name, ids in ends.items():
        if len(ids) != 1:
            raise ConversionError(
                "the readers of this container put exactly one token before and one after a text",
                got=f"{record.prefix_ids} before and {record.suffix_ids} after in this model",
            )
        _set(proto, name, ids[0])
    _set(proto, "pad", record.pad_id)
    unknown = next((i for i, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN), None)
    if unknown is not None:
        trainer.unk_id, trainer.unk_piece = unknown, proto.pieces[unknown].piece
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _set(proto: object, name: str, index: int) -> None:
    """Names a piece in the trainer's settings, and makes it a control piece."""
    pieces, trainer = proto.pieces, proto.trainer_spec  # type: ignore[attr-defined]
    if not 0 <= index < len(pieces):
        raise ConversionError(
            f"the tokenizer has no piece for the {name} token",
            got=f"id {index}",
            expected=f"an id below {len(pieces)}",
        )
    pieces[index].type = _CONTROL
    setattr(trainer, f"{name}_id", index)
    setattr(trainer, f"{name}_piece", pieces[index].piece)
