"""The directory of a run: what it holds, and how a stopped run finds its place again.

recipe.toml       a copy of the recipe
run.json          the recipe's digest, versions, and the stages that are finished
metrics.jsonl     one line for each logged step, evaluation and finished stage
data/, teacher/   tables and teacher vectors
axes.npy          what the teacher vectors are turned to, if a student asks for it
stages/1-NAME/    a stage's checkpoints and, when it is finished, its model
model/            the result
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data import Table
from edge_embed_train.recipe import Recipe, Stage

TOOLS = ("edge-embed", "torch", "transformers", "sentence-transformers", "accelerate", "datasets")

COMPLETE = "complete"
"""The file that is written into a checkpoint last."""


class RunFolder:
    """The directory of a run.

    Args:
        path: The directory; made if it is absent.
        recipe: What runs.
        writes: Whether this process writes: one of several does.
        cache: Where tables and teacher vectors are kept, for several runs; by default in the directory.

    Raises:
        InputError: If the directory is of a run of another recipe.
        TrainingError: If it cannot be written.
    """

    def __init__(self, path: Path, recipe: Recipe, *, writes: bool = True, cache: Path | None = None) -> None:
        self.path, self.recipe, self.writes = path, recipe, writes
        self.cache = cache or path
        self._same: set[str] = set()  # tables that were compared: stages share them
        if self.cache.exists() and not self.cache.is_dir():
            raise InputError(f"{self.cache} is not a directory", fix="choose another one")
        text = recipe.path.read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        state = path / "run.json"
        if state.is_file():
            self._state: dict[str, Any] = _read_state(state)
            if self._state["recipe_sha256"] != digest:
                raise InputError(
                    f"{path} holds a run of another recipe",
                    got=f"{recipe.path} has changed since the run began",
                    expected=f"the recipe as it is kept in {path / 'recipe.toml'}",
                    fix="choose another output directory, or undo the change",
                )
            return
        if path.is_dir() and any(path.iterdir()) and writes:
            raise InputError(f"{path} is not empty and holds no run", fix="choose a new directory")
        self._state = {
            "recipe_sha256": digest,
            "versions": {tool: importlib.metadata.version(tool) for tool in TOOLS},
            "finished": [],
        }
        if writes:
            try:
                path.mkdir(parents=True, exist_ok=True)
                (path / "recipe.toml").write_bytes(text)
                self._save_state()
            except OSError as error:
                raise TrainingError(f"cannot write {path}", got=str(error)) from error

    @property
    def data(self) -> Path:
        """Where tables are kept."""
        return self.cache / "data"

    @property
    def teacher(self) -> Path:
        """Where teacher vectors are kept."""
        return self.cache / "teacher"

    @property
    def axes(self) -> Path:
        """What the teacher's vectors are turned to, where a student asks for it."""
        return self.path / "axes.npy"

    @property
    def metrics(self) -> Path:
        """Where metrics are written, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The result."""
        return self.path / "model"

    def stage(self, number: int, stage: Stage) -> Path:
        """Returns the directory of a stage."""
        return self.path / "stages" / f"{number}-{stage.name}"

    def require_same(self, table: Table) -> None:
        """Notes a table's content in the run, and refuses another one when the run is continued.

        Raises:
            InputError: If the data has changed since the run began.
        """
        if table.name in self._same:
            return
        self._same.add(table.name)
        digest = hashlib.blake2b(digest_size=16)
        with table.path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        known = self._state.setdefault("data", {})
        if known.setdefault(table.name, digest.hexdigest()) != digest.hexdigest():
            raise InputError(
                f"the data set {table.name} has changed since the run in {self.path} began",
                got=f"{table.rows} rows of other texts",
                expected="the same texts in the same order",
                fix="choose another output directory, or undo the change",
            )
        if self.writes:
            self._save_state()

    def is_finished(self, key: str) -> bool:
        """Returns whether a stage, or one member of a soup, has been finished."""
        return key in self._state["finished"]

    def finish(self, key: str) -> None:
        """Notes that a stage is finished."""
        self._state["finished"].append(key)
        if self.writes:
            self._save_state()

    def log(self, **record: Any) -> None:
        """Adds a line to the metrics."""
        if self.writes:
            line = json.dumps({"time": round(time.time(), 3), **record})
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Returns the metrics so far."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text("utf-8").splitlines()
        return [record for line in lines if (record := _parsed(line)) is not None]

    def forget_after(self, stage: str, step: int) -> None:
        """Drops the metrics of steps that a resumed stage will do again."""
        if not (self.writes and self.metrics.is_file()):
            return
        kept = [r for r in self.records() if r.get("stage") != stage or r.get("step", 0) <= step]
        scratch = self.metrics.with_suffix(".part")
        scratch.write_text("".join(json.dumps(r) + "\n" for r in kept), "utf-8")
        os.replace(scratch, self.metrics)

    def _save_state(self) -> None:
        scratch = self.path / "run.json.part"
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(self._state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, self.path / "run.json")


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_text("utf-8"))
    except ValueError:
        state = None
    if not isinstance(state, dict) or not {"recipe_sha256", "finished"} <= set(state):
        raise InputError(
            f"{file} is damaged", got="not the state of a run", fix="choose another output directory"
        )
    return state


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:  # the last line of a run that was killed
        return None
    return record


def last_checkpoint(directory: Path) -> Path | None:
    """Returns the newest complete checkpoint of a stage."""
    found = [path.parent for path in directory.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Returns the number of steps that a checkpoint stands for."""
    return int(checkpoint.name.rpartition("-")[2])


def mark_complete(checkpoint: Path) -> None:
    """Marks a checkpoint as complete, after everything in it has reached the disk."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    (checkpoint / COMPLETE).write_text("", "utf-8")


def replace_directory(scratch: Path, target: Path) -> None:
    """Moves a finished directory to where it belongs."""
    if target.exists():
        shutil.rmtree(target)
    os.replace(scratch, target)
