"""The house: what the wheel holds, which way imports point, what loads when, what is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge_embed.cli.commands import available_commands
from edge_embed.default_model import PATH as MODEL_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PACKAGES = {Path(folder).name: ROOT / folder for folder in FOLDERS}
RUNTIME = "edge_embed"
CHAIN = (RUNTIME, "edge_embed_convert")
"""Each package may import itself and those of the chain that come before it."""
HEAVY = ("torch", "transformers", "litert_torch", "ai_edge_quantizer", "jax", "matplotlib", "psutil", "scipy")
LATE = ("ai_edge_litert", "sentencepiece", "tokenizers", "tqdm", "huggingface_hub")


def _modules(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    before = CHAIN[: CHAIN.index(package)] if package in CHAIN else CHAIN
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules(package)
        for name in _imports(path)
        if (top := name.partition(".")[0]) in PACKAGES and top not in {package, *before}
    }
    assert not wrong


def _private_imports(path: Path, room: tuple[str, ...]) -> set[str]:
    """Returns the names with an underscore that a module imports from another room or package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            parts = tuple(node.module.split("."))
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                own = alias.name.split(".")[0] in PACKAGES and alias.name.split(".")[0] != room[0]
                if own and any(part.startswith("_") for part in alias.name.split(".")):
                    found.add(alias.name)
            continue
        else:
            continue
        other_package = parts[0] != room[0]
        if other_package and any(part.startswith("_") for part in parts):
            found.add(node.module)
        if other_package or parts[: len(room)] != room:
            found |= {f"{node.module}.{n}" for n in names if n.startswith("_") and not n.startswith("__")}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_names_with_an_underscore_stay_in_their_room(package: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules(package)
        for name in _private_imports(path, (package, *path.relative_to(PACKAGES[package]).parts[:-1]))
    }
    assert not wrong


def test_a_private_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from edge_embed._version import __version__\n"
        "from edge_embed.text.prompts import _hidden\n"
        "import edge_embed._version\n"
        "from edge_embed_convert.pipeline import convert\n"
    )
    assert _private_imports(file, ("edge_embed_convert",)) == {
        "edge_embed._version",
        "edge_embed.text.prompts._hidden",
    }
    assert _private_imports(file, ("edge_embed", "engine")) == {"edge_embed.text.prompts._hidden"}


def test_one_folder_of_the_runtime_knows_litert() -> None:
    """So another version of LiteRT changes one folder."""
    folder = PACKAGES["edge_embed"] / "engine" / "litert"
    others = [path for path in _modules("edge_embed") if folder not in path.parents]
    assert len(others) < len(_modules("edge_embed"))
    assert not [path for path in others if any(name.startswith("ai_edge_litert") for name in _imports(path))]


def test_runtime_imports_no_heavy_package_anywhere() -> None:
    wrong = {
        f"{path.name}: {name}"
        for path in _modules(RUNTIME)
        if "integrations" not in path.parts  # adapters import the library that they adapt to
        for name in _imports(path)
        if name.partition(".")[0] in HEAVY
    }
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_every_tool_knows_the_package(package: str) -> None:
    tool, folder = PROJECT["tool"], str(PACKAGES[package].parent.relative_to(ROOT))
    assert folder in tool["hatch"]["build"]["dev-mode-dirs"]
    assert folder in tool["ruff"]["src"]
    place = "$MYPY_CONFIG_FILE_DIR" if folder == "." else f"$MYPY_CONFIG_FILE_DIR/{folder}"
    assert place in tool["mypy"]["mypy_path"].split(":")
    assert package in tool["mypy"]["packages"]
    assert f"error:::{package}" in tool["pytest"]["ini_options"]["filterwarnings"]


def test_wheel_holds_exactly_the_packages(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    members = set(zipfile.ZipFile(wheel).namelist())
    for package, directory in PACKAGES.items():
        sources = {f"{package}/{p.relative_to(directory).as_posix()}" for p in directory.rglob("*.py")}
        assert sources <= members
        assert f"{package}/py.typed" in members
    assert {f"edge_embed/default_model/{name}" for name in (MODEL_FILE.name, "NOTICES.txt")} <= members


def test_base_dependencies_are_the_four(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    required = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Requires-Dist")]
    base = {r.split(">")[0].split("<")[0].split("=")[0].strip() for r in required if "extra ==" not in r}
    assert base == {"ai-edge-litert", "numpy", "sentencepiece", "tokenizers"}


BLOCKER = """
import sys
blocked = {blocked!r}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
sys.path.insert(0, {wheel!r})
"""


def _base_only(wheel: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs code against the wheel alone, with every package of the extras hidden."""
    blocked = [
        *HEAVY,
        "litert_converter",
        "safetensors",
        "huggingface_hub",
        "sentence_transformers",
        "pyarrow",
    ]
    program = BLOCKER.format(blocked=blocked, wheel=str(wheel)) + code
    return subprocess.run(
        [sys.executable, "-I", "-c", program, *words], capture_output=True, text=True, check=False
    )


def test_import_loads_nothing_late(wheel: Path) -> None:
    result = _base_only(wheel, "import edge_embed; print(' '.join(sys.modules))")
    assert result.returncode == 0, result.stderr
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded & set(PACKAGES) == {RUNTIME}
    assert not loaded & {*HEAVY, *LATE}


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in available_commands())])
def test_help_works_with_the_base_install(wheel: Path, words: list[str]) -> None:
    code = (
        "import atexit; from edge_embed.cli import main\n"
        "atexit.register(lambda: print(' '.join(sys.modules), file=sys.stderr))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    result = _base_only(wheel, code, *words)
    assert result.returncode == 0, result.stderr
    assert "usage: edge_embed" in result.stdout
    assert not {name.partition(".")[0] for name in result.stderr.split()} & {*HEAVY, *LATE}


def test_missing_extra_names_the_remedy(wheel: Path, tmp_path: Path) -> None:
    code = "from edge_embed.cli import main; sys.exit(main(sys.argv[1:]))"
    # The configuration is read before anything heavy is loaded.
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    config = {"model_type": "bert", "hidden_act": "gelu", "max_position_embeddings": 64, "type_vocab_size": 2}
    config |= {"layer_norm_eps": 1e-12, **dict.fromkeys(sizes, 8)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = _base_only(wheel, code, "convert", str(tmp_path), "--pooling", "mean")
    assert result.returncode == 2
    assert "pip install 'edge-embed[convert]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_runtime_works_with_the_base_install(wheel: Path, tiny_model: Path) -> None:
    code = "import edge_embed; print(edge_embed.Embedder(sys.argv[1]).encode('the red planet').shape)"
    result = _base_only(wheel, code, str(tiny_model))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(")
    assert not result.stderr


@pytest.mark.parametrize("name", ["edge_embed", "edge_embed_convert", "edge_embed.errors"])
def test_public_things_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None) or [
        n for n, value in vars(module).items() if inspect.isclass(value) and value.__module__ == name
    ]
    for public in names:
        value = getattr(module, public)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        members = [(public, value)]
        if inspect.isclass(value):
            members += [
                (f"{public}.{n}", m)
                for n, m in vars(value).items()
                if not n.startswith("_") and (inspect.isfunction(m) or isinstance(m, property))
            ]
        for label, member in members:
            text = inspect.getdoc(member)
            assert text, f"{label} has no docstring"
            assert text.splitlines()[0].rstrip().endswith((".", ":")), f"{label}: no plain first sentence"


def test_no_module_grows_past_its_room() -> None:
    longest = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in _modules(package)
    }
    assert not {name: lines for name, lines in longest.items() if lines > 400}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by hatchling in place, without network."""
    directory = tmp_path_factory.mktemp("wheel")
    code = (
        "import os, sys; from hatchling.build import build_wheel; os.chdir(sys.argv[1]); "
        "print(build_wheel(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT), str(directory)], check=True, capture_output=True)
    return next(directory.glob("*.whl"))
