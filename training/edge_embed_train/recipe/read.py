"""Read a recipe and refuse what cannot work, ahead of all work."""

from __future__ import annotations

import difflib
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from edge_embed.errors import InputError
from edge_embed_train.data import Source
from edge_embed_train.losses import LossOptions
from edge_embed_train.recipe.grammar import (
    AdaptStage,
    DataSet,
    HardNegatives,
    Recipe,
    RotateStage,
    Stage,
    StudentStage,
    TrainStage,
)
from edge_embed_train.recipe.ranges import check_ranges, is_number

LOSSES = {
    "distill": LossOptions(nce=0.0, spread_out=0.0, matching=1.0),
    "prefinetune": LossOptions(),
    "finetune": LossOptions(),
    "qat": LossOptions(),
    "soup": LossOptions(),
}
"""The kinds of stages that train, and the loss that each begins with."""

MAKERS: Mapping[str, type[StudentStage | AdaptStage | RotateStage]] = {
    "student": StudentStage,
    "adapt": AdaptStage,
    "rotate": RotateStage,
}
"""The kinds of stages that make a model in another way than by training."""

KINDS = (*MAKERS, *LOSSES)

TERMS = ("nce", "spread_out", "matching", "relational", "within_rows")
"""The terms of the loss; without one there is nothing to train for."""

NAME = re.compile(r"\w[\w .+-]*")
"""How data sets and stages are called: files and directories have these names."""

SCHEDULES = ("cosine", "linear", "constant")

T = TypeVar("T")


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe. Paths in it are relative to its own directory.

    Raises:
        InputError: If it cannot be read, has unknown keys, or its stages cannot follow each other.
    """
    place = Path(path).expanduser()
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe {place} cannot be read", got=str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place} is not valid TOML", got=str(error)) from error
    data = {
        name: _data_set(section, f"[data.{name}]", place.parent)
        for name, section in _table(table.pop("data", {}), "data").items()
    }
    sections = table.pop("stage", [])
    if not isinstance(sections, list):
        raise InputError("stage is not a list of tables", got=repr(sections)[:80], expected="[[stage]]")
    stages = tuple(_stage(section, number) for number, section in enumerate(sections, 1))
    top = _filled(Recipe, table, "the recipe", skipped=("data", "stages", "path"))
    base = place.parent
    recipe = replace(
        top,
        model=_near(top.model, base),
        teacher=_near(top.teacher, base),
        teacher_file=_near(top.teacher_file, base),
        dev=tuple(base / each for each in top.dev),
        data=data,
        stages=stages,
        path=place,
    )
    _check(recipe)
    return recipe


def _near(name: str, base: Path) -> str:
    """Returns a directory beside the recipe where there is one; else the name, which may be a hub id."""
    return str(base / name) if name and (base / name).exists() else name


def _data_set(section: Any, where: str, base: Path) -> DataSet:
    section = dict(_table(section, where))
    prompts = {key: section.pop(key, None) for key in ("query_prompt", "positive_prompt")}
    for key, name in prompts.items():
        if name is not None and not isinstance(name, str):
            raise InputError(f"{where}: {key} has the wrong type", got=repr(name)[:80], expected="str")
    source = _filled(Source, section, where, extra=tuple(prompts))
    if (source.path is None) == (source.hub is None):
        found = ", ".join(section) or "neither"
        raise InputError(f"{where} needs exactly one of `path` and `hub`", got=found)
    if source.path is not None:
        source = replace(source, path=base / source.path)
    return DataSet(source, **prompts)


def _stage(section: Any, number: int) -> Stage:
    section = dict(_table(section, f"stage {number}"))
    kind = section.get("kind")
    where = f"stage {number} ({kind})"
    if kind not in KINDS:
        raise InputError(f"stage {number} has no known kind", got=repr(kind), expected=", ".join(KINDS))
    if kind in MAKERS:
        made = _named(_filled(MAKERS[kind], section, where))
        check_ranges(made, where)
        if isinstance(made, RotateStage) and made.quantize:
            from edge_embed_train.qat import trainable_recipe

            trainable_recipe(made.quantize)
        return made
    losses = dict(_table(section.pop("loss", {}), f"{where}: loss"))
    base = LOSSES[kind]
    known = {each.name: getattr(base, each.name) for each in fields(LossOptions)}
    loss = _filled(LossOptions, {**known, **losses}, f"{where}: loss")
    mined = section.pop("hard_negatives", None)
    if mined is True:
        mined = {}
    hard = None
    if mined is not None and mined is not False:
        hard = _filled(HardNegatives, _table(mined, f"{where}: hard_negatives"), f"{where}: hard_negatives")
    stage = _filled(TrainStage, section, where, extra=("loss", "hard_negatives"))
    stage = _named(replace(stage, loss=loss, hard_negatives=hard))
    _check_numbers(stage, where)
    return stage


S = TypeVar("S", bound=Stage)


def _named(stage: S) -> S:
    return stage if stage.name else replace(stage, name=stage.kind)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is not a table", got=repr(value)[:80])
    return value


def _filled(
    kind: type[T],
    section: Mapping[str, Any],
    where: str,
    *,
    skipped: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
) -> T:
    """Returns a dataclass from a table, with every key known and every value of the field's type."""
    hints = typing.get_type_hints(kind)
    every: tuple[Any, ...] = fields(kind)  # type: ignore[arg-type]
    known = {each.name: each for each in every if each.name not in skipped}
    values = {}
    for key, value in section.items():
        if key not in known:
            close = difflib.get_close_matches(key, [*known, *extra], 1)
            raise InputError(
                f"{where} has an unknown key",
                got=key,
                expected=", ".join(sorted({*known, *extra})),
                fix=f"did you mean {close[0]}?" if close else None,
            )
        values[key] = _typed(value, hints[key], f"{where}: {key}")
    for name, each in known.items():
        required = each.default is MISSING and each.default_factory is MISSING
        if required and name not in values:
            raise InputError(f"{where} lacks a key", expected=name)
    return kind(**values)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Returns a value as the type that a field wants."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(value, arguments[0], where)
    if origin is typing.Literal:
        if value not in arguments:
            raise InputError(f"{where} has no such choice", got=repr(value), expected=" or ".join(arguments))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is not a list", got=repr(value)[:80])
        return tuple(_typed(each, arguments[0], where) for each in value)
    if origin is not None:  # a mapping; its values are what they are
        return _table(value, where)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where} has the wrong type", got=repr(value)[:80], expected=hint.__name__)
    return value


def _check_numbers(stage: TrainStage, where: str) -> None:
    check_ranges(stage, where)
    check_ranges(stage.loss, f"{where}: loss")
    if stage.hard_negatives is not None:
        check_ranges(stage.hard_negatives, f"{where}: hard_negatives")
    if not any(getattr(stage.loss, term) for term in TERMS):
        raise InputError(f"{where}: every term of the loss has the weight 0", expected=" or ".join(TERMS))
    shares = stage.shares.values()
    if stage.shares and not (all(is_number(s) and s >= 0 for s in shares) and sum(shares) > 0):
        raise InputError(
            f"{where}: shares are no proportions",
            got=str(dict(stage.shares))[:80],
            expected="numbers, not all 0",
        )
    if stage.loss.needs_positives and stage.batch_size < 2:
        raise InputError(
            f"{where} needs more than one row in a batch",
            got="batch_size = 1",
            expected="2 or more, or loss.nce = 0",
        )
    if stage.schedule not in SCHEDULES:
        raise InputError(f"{where} has no such schedule", got=stage.schedule, expected=", ".join(SCHEDULES))
    if stage.quantize:
        from edge_embed_train.qat import trainable_recipe

        trainable_recipe(stage.quantize)


def _check(recipe: Recipe) -> None:
    if not recipe.stages:
        raise InputError("the recipe has no stages", expected="one [[stage]] or more")
    check_ranges(recipe, "the recipe")
    names = [stage.name for stage in recipe.stages]
    bad = [name for name in (*names, *recipe.data) if not NAME.fullmatch(name)]
    if bad:
        raise InputError(
            "a stage or a data set has a name that is no name of a file",
            got=repr(bad[0]),
            expected="letters, digits, spaces and . + - _",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("two stages have the same name", got=twice, fix="give each a `name`")
    quantized: TrainStage | None = None
    for number, stage in enumerate(recipe.stages, 1):
        where = f"stage {number} ({stage.name})"
        unknown = [name for name in stage.data if name not in recipe.data]
        if unknown or not stage.data:
            raise InputError(
                f"{where} has no data" if not stage.data else f"{where} names data that the recipe lacks",
                got=", ".join(unknown) or "none",
                expected=", ".join(recipe.data) or "a table [data.NAME]",
            )
        if isinstance(stage, TrainStage):
            quantized = _check_training(recipe, stage, where, quantized)
        elif isinstance(stage, RotateStage):
            _check_last(recipe, stage, number, where, quantized)
        elif number > 1:
            raise InputError(
                f"{where} cannot follow another stage",
                got=f"{stage.kind} after {recipe.stages[number - 2].kind}",
                expected=f"{stage.kind} as the first stage: it makes the model that the others train",
            )
    if recipe.teacher_file and not recipe.teacher:
        raise InputError("the recipe has a teacher_file and no teacher", fix="name the `teacher` as well")
    first = recipe.stages[0]
    if isinstance(first, StudentStage):
        if not recipe.teacher:
            raise InputError("a student needs a teacher", got="none", fix="name a `teacher`")
    elif not recipe.model:
        raise InputError("the recipe names no model to start from", expected="a directory or a hub id")


def _check_last(
    recipe: Recipe, stage: RotateStage, number: int, where: str, quantized: TrainStage | None
) -> None:
    """Refuses a turn that another stage would undo, or one that is to store weights as none was trained."""
    if number < len(recipe.stages):
        raise InputError(
            f"{where} is not the last stage",
            got=f"{recipe.stages[number].name} after it",
            expected="rotate as the last stage: training moves the vectors again",
        )
    trained = quantized.quantize if quantized else ""
    if bool(stage.quantize) != bool(trained):
        raise InputError(
            f"{where} stores weights in another way than they were trained for",
            got=stage.quantize or "no `quantize`",
            expected=trained or "no `quantize`: no stage before it has one",
        )
    if trained:
        from edge_embed_train.qat import trainable_recipe

        ours, theirs = trainable_recipe(stage.quantize), trainable_recipe(trained)
        if replace(ours, projection=theirs.projection).spec != theirs.spec:
            raise InputError(
                f"{where} stores weights in another way than they were trained for",
                got=stage.quantize,
                expected=f"{trained}, or the same with more bits for the Dense modules",
            )


def _check_training(
    recipe: Recipe, stage: TrainStage, where: str, quantized: TrainStage | None
) -> TrainStage | None:
    if stage.needs_teacher and not recipe.teacher:
        raise InputError(
            f"{where} needs a teacher", got="none", fix="name a `teacher`, or leave out matching and mining"
        )
    if stage.kind == "qat" and not stage.quantize:
        raise InputError(f"{where} needs `quantize`", expected="a recipe such as int4 or mixed")
    if quantized and not stage.quantize:
        raise InputError(
            f"{where} would undo quantization-aware training",
            got=f"no `quantize` after {quantized.name}",
            expected="stages with `quantize` last",
        )
    if stage.evaluate_every and not recipe.dev:
        raise InputError(
            f"{where} has no sets to evaluate on",
            got="evaluate_every and no `dev`",
            fix="set the recipe's `dev`",
        )
    if stage.patience and not (stage.evaluate_every and recipe.dev):
        raise InputError(
            f"{where} cannot stop early",
            got="no evaluations",
            fix="set `evaluate_every` and the recipe's `dev`",
        )
    if stage.trials:
        _check_search(recipe, stage, where)
    unknown = [name for name in stage.shares if name not in stage.data]
    if unknown:
        raise InputError(f"{where} has shares of data that it does not use", got=", ".join(unknown))
    return stage if stage.quantize else quantized


def _check_search(recipe: Recipe, stage: TrainStage, where: str) -> None:
    """Refuses a search over mixtures that could not choose."""
    if stage.kind != "soup":
        raise InputError(f"{where} has trials", got=stage.kind, expected="soup, the stage that mixes")
    if stage.trials < stage.members:
        raise InputError(
            f"{where} tries fewer mixtures than it trains",
            got=f"trials = {stage.trials}, members = {stage.members}",
            expected=f"{stage.members} trials or more, or none",
        )
    if not recipe.dev or len(stage.data) < 2:
        raise InputError(
            f"{where} cannot search for a mixture",
            got="no development sets" if not recipe.dev else "one data set",
            expected="the recipe's `dev`, and two data sets or more",
        )
