"""Put what the recipe of edge-embed-mini needs beside it, or into one archive for a machine with a GPU.

    edge_embed convert CHECKPOINT -o teacher.int8.tflite
    python training/recipes/mini/prepare.py --text CORPUS --teacher CHECKPOINT --dev SETS \\
        --teacher-file teacher.int8.tflite
    python training/recipes/mini/prepare.py --text CORPUS --teacher CHECKPOINT --dev SETS --archive FILE

CORPUS is the directory of the `.train.jsonl.xz` files, CHECKPOINT is all-MiniLM-L6-v2, SETS is a directory
with STSBenchmark.dev.tsv. Without `--archive` the directory `given` beside the recipe gets links. With it,
the archive holds this repository's packages, the recipe, only the rows that the recipe reads, the development
set, and the teacher's weights in int8, one scale per row: a quarter of the bytes. There the checkpoint itself
computes the teacher vectors, which is faster on a GPU. On the other machine run `sh run.sh` in the unpacked
directory.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GIVEN = HERE / "given"
TEACHER = "all-MiniLM-L6-v2"
CARRIED = ("sentence_transformers", "datasets", "dill", "multiprocess")
"""Packages of this environment that travel along; the other machine has torch, transformers and the rest."""

ON_A_CPU = ("teacher_file =", "precision =")
"""Keys of the recipe that a machine with a GPU does better without."""

LIMIT = 64 * 2**20
"""Bytes that travel to a machine in one go."""

RUN = """\
# Makes edge-embed-mini on a machine with a GPU. It was not run on one.
set -e
cd "$(dirname "$0")"
export PYTHONPATH="$PWD:$PWD/converters:$PWD/training:$PWD/vendor"
python3 training/recipes/mini/prepare.py --unpack-teacher
python3 -c "import os; from edge_embed_train.run import train; \\
print(train('training/recipes/mini/recipe.toml', os.environ.get('OUT', '.') + '/mini'))"
"""


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--teacher-file", type=Path)
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--unpack-teacher", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.unpack_teacher:
        unpack_teacher(GIVEN / TEACHER)
        return 0
    if not (args.text and args.teacher and args.dev):
        parser.error("name --text, --teacher and --dev")
    if args.archive is None:
        if not args.teacher_file:
            parser.error("name --teacher-file, or --archive")
        GIVEN.mkdir(exist_ok=True)
        places = {
            "text": args.text,
            TEACHER: args.teacher,
            "teacher.int8.tflite": args.teacher_file,
            "dev": args.dev,
        }
        for name, place in places.items():
            link = GIVEN / name
            link.unlink(missing_ok=True)
            link.symlink_to(place.resolve())
        return 0
    size = pack(args.archive, args.text, args.teacher, args.dev)
    print(f"{args.archive}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        print(f"more than the {LIMIT / 2**20:.0f} MiB that travel in one go", file=sys.stderr)
        return 1
    return 0


def pack(archive: Path, text: Path, teacher: Path, dev: Path) -> int:
    """Writes the archive and returns its size."""
    from edge_embed_train.recipe import read_recipe

    recipe = read_recipe(HERE / "recipe.toml")
    with tarfile.open(archive, "w") as tar:
        packages = ("edge_embed", "converters", "training", "pyproject.toml", "LICENSE")
        code = subprocess.run(
            ["git", "archive", "HEAD", *packages], cwd=ROOT, check=True, capture_output=True
        )
        with tarfile.open(fileobj=io.BytesIO(code.stdout)) as files:
            for member in files:
                tar.addfile(member, files.extractfile(member) if member.isfile() else None)
        _add(tar, "run.sh", RUN.encode())
        text_of_recipe = recipe.path.read_text("utf-8")
        kept = [line for line in text_of_recipe.splitlines() if not line.startswith(ON_A_CPU)]
        _add(tar, "training/recipes/mini/recipe.toml", "\n".join(kept).encode() + b"\n")
        for name in CARRIED:
            package = Path(str(importlib.util.find_spec(name).origin)).parent  # type: ignore[union-attr]
            for file in package.rglob("*"):
                if file.is_file() and "__pycache__" not in file.parts:
                    _add(tar, f"vendor/{name}/{file.relative_to(package)}", file.read_bytes())
            for facts in package.parent.glob(f"{name}-*.dist-info/METADATA"):  # versions are asked for
                _add(tar, f"vendor/{facts.parent.name}/METADATA", facts.read_bytes())
        place = "training/recipes/mini/given"
        wanted: dict[str, list[dict[str, object]]] = {}
        for data in recipe.data.values():
            assert data.source.path is not None
            wanted.setdefault(data.source.path.name, []).append(dict(data.source.where))
        for name, filters in wanted.items():
            _add(tar, f"{place}/text/{name}", _rows(text / name, filters))
        for set_ in recipe.dev:
            _add(tar, f"{place}/dev/{set_.name}", (dev / set_.name).read_bytes())
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / "weights.npz"
            pack_teacher(teacher, packed)
            _add(tar, f"{place}/{TEACHER}/weights.npz", packed.read_bytes())
        for file in teacher.rglob("*"):
            if file.is_file() and file.suffix in (".json", ".txt", ".md"):
                _add(tar, f"{place}/{TEACHER}/{file.relative_to(teacher)}", file.read_bytes())
    return archive.stat().st_size


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _rows(path: Path, filters: list[dict[str, object]]) -> bytes:
    """Returns the rows of a file that any of the recipe's filters keeps, compressed again."""
    kept, whole = [], True
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if any(all(record.get(k) == v for k, v in where.items()) for where in filters):
                kept.append(line)
            else:
                whole = False
    return path.read_bytes() if whole else lzma.compress("".join(kept).encode())


def pack_teacher(teacher: Path, path: Path) -> None:
    """Writes a checkpoint's weights, matrices in int8 with one scale per row."""
    import numpy as np
    from safetensors.numpy import load_file

    arrays = {}
    for name, weight in load_file(teacher / "model.safetensors").items():
        if weight.ndim == 2 and weight.size > 10_000:
            scale = np.maximum(np.abs(weight).max(1, keepdims=True), 1e-12) / 127
            arrays[f"{name}:int8"] = np.rint(weight / scale).astype(np.int8)
            arrays[f"{name}:scale"] = scale.astype(np.float32)
        else:
            arrays[name] = weight
    np.savez_compressed(path, **arrays)


def unpack_teacher(directory: Path) -> None:
    """Writes model.safetensors from weights.npz."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays = dict(np.load(directory / "weights.npz"))
    weights = {}
    for name, value in arrays.items():
        if name.endswith(":int8"):
            base = name.removesuffix(":int8")
            weights[base] = value.astype(np.float32) * arrays[f"{base}:scale"]
        elif not name.endswith(":scale"):
            weights[name] = value
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    sys.exit(main())
