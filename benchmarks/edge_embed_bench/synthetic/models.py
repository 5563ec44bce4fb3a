"""Models of released shapes with random weights, for users who do not have the weights yet.

The checkpoint comes from `edge_embed_convert.random_checkpoint`, with a tokenizer made here that has the
size and kind of the released vocabulary. Its pieces are strings of letters and not words, so a text has more
tokens than with the released one. Records count the tokens that were run, and long texts are truncated.

A kept file has a key of the code that made it in its path, so a changed converter makes a new file:
`synthetic/CHECKPOINT-KEY/NAME` and, beside it, `CONVERTER-KEY/NAME.RECIPE.tflite`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import InputError
from edge_embed.model_file import file, manifest
from edge_embed.progress import Step
from edge_embed_bench.files import make_directory, maker_key
from edge_embed_bench.records.model import SYNTHETIC_MARK
from edge_embed_bench.synthetic.tokenizers import Files, bert_tokenizer_files, gemma_tokenizer_files


@dataclass(frozen=True)
class Shape:
    """A released shape: its tokenizer, its family, and the recipe if none is named."""

    tokenizer: Callable[[], Files]
    family: str
    recipe: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


def build(name: str, recipe: str | None = None, *, progress: Step = lambda step, done, total: None) -> Path:
    """Returns the model file of a shape, and converts it if it is not in the cache yet.

    Args:
        name: One of `SHAPES`.
        recipe: By default that of the family.
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
    """Returns the file of a checkpoint, and converts it if it is not kept yet.

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
    target = keep / converter_key() / f"{name}.{recipe}.tflite"
    if not target.is_file():
        from edge_embed_convert import convert  # seconds, and only for the first time

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot keep {target}", got=error.strerror or str(error)) from error
        convert(source, target, recipe=recipe, name=name, progress=progress)
    return target


def checkpoint(name: str) -> Path:
    """Returns the checkpoint of a shape, and writes it if it is not in the cache yet.

    Raises:
        InputError: If the shape is unknown, or there is no directory to keep it in.
    """
    require_known([name])
    return checkpoint_of(name, SHAPES[name])


def checkpoint_of(name: str, shape: Shape) -> Path:
    """Returns the checkpoint of any shape, one of `SHAPES` or not, and writes it if it is not kept yet.

    Args:
        name: Its name. Two shapes of one name must differ in their overrides.
        shape: The shape.

    Raises:
        InputError: If there is no directory to keep it in.
    """
    cache = default_directory()
    if cache is None:
        raise InputError("there is no cache directory to build in", fix="set EDGE_EMBED_CACHE")
    shapes = sorted((_converter() / "families").glob("*/__init__.py"))
    makers = [_converter() / "random_checkpoint.py", *shapes, Path(__file__).parent]
    changes = json.dumps(dict(shape.overrides), sort_keys=True, default=str)
    key = f"{maker_key(makers, ['torch'])}-{hashlib.sha256(changes.encode()).hexdigest()[:8]}"
    directory = cache / "synthetic" / key / f"{SYNTHETIC_MARK}-{name}"
    if directory.is_dir():
        return directory
    from edge_embed_convert.families import family_named
    from edge_embed_convert.random_checkpoint import write_random_checkpoint  # brings torch

    family = family_named(shape.family)
    try:
        make_directory(
            directory,
            lambda place: write_random_checkpoint(place, family, shape.tokenizer(), **shape.overrides),
        )
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


def converter_key() -> str:
    """Returns a key of the code that makes model files."""
    layout = [Path(module.__file__ or "") for module in (manifest, file)]
    return maker_key(
        [_converter(), *layout], ["litert-torch", "litert-converter", "ai-edge-quantizer", "torch"]
    )


def require_known(names: Sequence[str]) -> None:
    """Refuses the name of an unknown shape.

    Raises:
        InputError: If one is unknown; the message lists the known ones.
    """
    for name in names:
        if name not in SHAPES:
            raise InputError("unknown synthetic model", got=repr(name), expected=", ".join(SHAPES))


def require_recipe(name: str) -> None:
    """Refuses an unknown recipe before a checkpoint of gigabytes is written.

    Raises:
        RecipeError: If the name is unknown.
        InputError: If it is `auto`, which searches by quality.
    """
    from edge_embed_convert.recipes.grammar import AUTO, Recipe  # only where something is built

    if name == AUTO:
        raise InputError("random weights have no quality that a search could use", got=f"--recipe {AUTO}")
    Recipe.parse(name)


SHAPES = {
    "embeddinggemma-300m": Shape(gemma_tokenizer_files, "embeddinggemma", "mixed"),
    "minilm": Shape(bert_tokenizer_files, "bert", "int8"),
}
"""The known shapes. `names.SYNTHETIC` has their names for the help."""
