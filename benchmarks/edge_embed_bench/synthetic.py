"""Random models of released shapes, built once and kept, for whoever has no weights yet.

The checkpoint comes from `edge_embed_convert.synthetic`, with a tokenizer made here that has the released
vocabulary's size and kind. Its pieces are strings of letters and not words, so a text has more tokens
than it would have; token counts in records are therefore what is measured, and texts are cut to fit.

What is kept lies under a key of the code that made it, so that a changed converter makes a new file:
`synthetic/CHECKPOINT-KEY/NAME` and, beside it, `CONVERTER-KEY/NAME.RECIPE.tflite`.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed.engine.weight_cache import default_directory
from edge_embed.errors import InputError
from edge_embed.model_file import file, manifest
from edge_embed.progress import Step
from edge_embed_bench._files import make_directory, maker_key
from edge_embed_bench.matrix import SYNTHETIC_MARK

GEMMA_VOCABULARY, BERT_VOCABULARY = 262144, 30522

_SPACE = "\u2581"
_LETTERS = "etaoinshrdlucmfwypvbgkjxqz"
_OTHERS = "0123456789.,:;!?'\"()-_/|\n" + _LETTERS.upper()

Files = dict[str, bytes]


@dataclass(frozen=True)
class Shape:
    """A released shape: its tokenizer, who writes the checkpoint, and the recipe if none is named."""

    tokenizer: Callable[[], Files]
    writer: str
    recipe: str


def build(name: str, recipe: str | None = None, *, progress: Step = lambda step, done, total: None) -> Path:
    """Returns the model file of a shape, converting it if it is not in the cache yet.

    Args:
        name: One of `SHAPES`.
        recipe: By default the one that the family is released with.
        progress: As for `edge_embed_convert.convert`.

    Raises:
        InputError: If the shape is unknown, or there is no directory to keep it in.
        RecipeError: If the recipe is unknown.
    """
    source = checkpoint(name)
    return converted(source, source.name, recipe or SHAPES[name].recipe, source.parent, progress=progress)


def converted(
    source: Path, name: str, recipe: str, keep: Path, *, progress: Step = lambda step, done, total: None
) -> Path:
    """Returns a checkpoint's file, converting it if it is not kept yet.

    Args:
        source: The checkpoint.
        name: The model's name.
        recipe: Its recipe.
        keep: A directory for the files of this checkpoint.
        progress: As for `edge_embed_convert.convert`.

    Raises:
        InputError: If the directory cannot be written.
        RecipeError: If the recipe is unknown.
    """
    target = keep / _converter_key() / f"{name}.{recipe}.tflite"
    if not target.is_file():
        from edge_embed_convert import convert  # seconds, and only for the first time

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot keep {target}", got=error.strerror or str(error)) from error
        convert(source, target, recipe=recipe, name=name, progress=progress)
    return target


def checkpoint(name: str) -> Path:
    """Returns the checkpoint of a shape, writing it if it is not in the cache yet.

    Raises:
        InputError: If the shape is unknown, or there is no directory to keep it in.
    """
    require_known([name])
    cache = default_directory()
    if cache is None:
        raise InputError("there is no cache directory to build in", fix="set EDGE_EMBED_CACHE")
    key = maker_key([_converter() / "synthetic.py", Path(__file__)], ["torch"])
    directory = cache / "synthetic" / key / f"{SYNTHETIC_MARK}-{name}"
    if directory.is_dir():
        return directory
    from edge_embed_convert import synthetic  # brings torch

    writer: Callable[[Path, Mapping[str, bytes]], Path] = getattr(synthetic, SHAPES[name].writer)
    try:
        make_directory(directory, lambda place: writer(place, SHAPES[name].tokenizer()))
    except OSError as error:
        raise InputError(
            f"cannot build the synthetic model in {directory.parent}", got=error.strerror or str(error)
        ) from error
    return directory


def _converter() -> Path:
    """Returns the directory of the converter's code, without importing it."""
    spec = importlib.util.find_spec("edge_embed_convert")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _converter_key() -> str:
    layout = [Path(module.__file__ or "") for module in (manifest, file)]
    return maker_key(
        [_converter(), *layout], ["litert-torch", "litert-converter", "ai-edge-quantizer", "torch"]
    )


def require_known(names: Sequence[str]) -> None:
    """Refuses a name that is no shape.

    Raises:
        InputError: If one is unknown; the message lists the known ones.
    """
    for name in names:
        if name not in SHAPES:
            raise InputError("unknown synthetic model", got=repr(name), expected=", ".join(SHAPES))


def require_recipe(name: str) -> None:
    """Refuses what is no recipe, before a checkpoint of gigabytes is written for it.

    Raises:
        RecipeError: If the name is unknown.
        InputError: If it is `auto`, which looks for what costs least quality.
    """
    from edge_embed_convert.recipes.grammar import AUTO, Recipe  # only where something is built

    if name == AUTO:
        raise InputError("random weights have no quality to search by", got=f"--recipe {AUTO}")
    Recipe.parse(name)


def gemma_tokenizer_files(vocabulary: int = GEMMA_VOCABULARY) -> Files:
    """Returns a BPE with byte fallback, Gemma's special ids, and so many pieces."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    fixed = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = list(itertools.islice(_pieces(), vocabulary - len(fixed)))
    known = set(pieces)
    # Every way to split a piece into pieces is a merge, as in Gemma, so that SentencePiece can carry it.
    merges = [[p[:k], p[k:]] for p in pieces for k in range(1, len(p)) if p[:k] in known and p[k:] in known]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {piece: i for i, piece in enumerate([*fixed, *pieces])},
        "merges": merges,
    }
    spec = _spec(model, special, ("<bos>", 2), ("<eos>", 1))
    spec["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    settings = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return _files(spec, settings, 2048)


def bert_tokenizer_files(vocabulary: int = BERT_VOCABULARY) -> Files:
    """Returns a lowercasing WordPiece with so many pieces."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    plain = (p.replace(_SPACE, "") for p in _pieces())
    both = (form for p in plain if p and p == p.lower() for form in (p, f"##{p}"))
    pieces = itertools.islice(
        dict.fromkeys(itertools.islice(both, 3 * vocabulary)), vocabulary - len(special)
    )
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: i for i, piece in enumerate([*special, *pieces])},
    }
    spec = _spec(model, special, ("[CLS]", 2), ("[SEP]", 3))
    spec["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    spec["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _files(spec, settings, 512)


SHAPES = {
    "embeddinggemma-300m": Shape(gemma_tokenizer_files, "write_embeddinggemma", "mixed"),
    "minilm": Shape(bert_tokenizer_files, "write_bert", "int8"),
}
"""Known shapes; `cli.SYNTHETIC` spells their names for the help."""


def _pieces() -> Iterator[str]:
    """Yields distinct pieces without end, the short ones first; every part of a piece comes before it."""
    yield from _SPACE + _LETTERS + _OTHERS
    for length in itertools.count(2):
        for letters in itertools.product(_LETTERS, repeat=length - 1):
            yield _SPACE + "".join(letters)
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters)


def _spec(
    model: dict[str, Any], special: Sequence[str], first: tuple[str, int], last: tuple[str, int]
) -> dict[str, Any]:
    """Returns a tokenizer.json that puts one special token before and one after every text."""
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(special)
    ]
    around = [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in (first, last)]
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "decoder": None,
        "model": model,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [around[0], text[0], around[1]],
            "pair": [around[0], *text, around[1]],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (first, last)},
        },
    }


def _files(spec: dict[str, Any], settings: dict[str, Any], limit: int) -> Files:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": limit, **settings}
    return {
        "tokenizer.json": json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
