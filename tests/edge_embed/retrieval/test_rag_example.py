"""The example that feeds a generator, with a generator that says what it was given."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edge_embed.errors import InputError

SCRIPT = Path(__file__).parents[3] / "examples" / "rag" / "answer.py"


@pytest.fixture
def ask():
    spec = importlib.util.spec_from_file_location("answer", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ask


class Engine:
    """Has what the example uses of `litert_lm.Engine`, and of its conversation."""

    def __init__(self, path):
        if Path(path).read_bytes() != b"model":
            raise RuntimeError(f"Failed to create LiteRT-LM engine for {path}")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def create_conversation(self, *, system_message):
        assert "numbered passages" in system_message
        return self

    def send_message_async(self, message):
        yield SimpleNamespace(contents="I was given:\n")
        yield SimpleNamespace(contents=message)


class ModelInfo:
    """Has what the example uses of `litert_lm.ModelInfo`."""

    def __init__(self, path):
        self.is_embedding_model = Path(path).read_bytes() == b"encoder"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


@pytest.fixture
def generator(monkeypatch, tmp_path):
    module = ModuleType("litert_lm")
    module.Engine, module.ModelInfo = Engine, ModelInfo
    monkeypatch.setitem(sys.modules, "litert_lm", module)
    path = tmp_path / "generator.litertlm"
    path.write_bytes(b"model")
    return path


def test_the_generator_gets_passages_and_question(ask, planets, generator):
    printed = "".join(ask(planets, generator, "red planet?", 100))
    passages, _, given = printed.partition("\n\nI was given:\n")
    assert passages.startswith("[1] Mars (mars)\nMars is the red planet.")
    assert given == f"{passages}\n\nQuestion: red planet?"
    assert "nothing about that" in "".join(ask(planets, generator, " ", 100))


def test_what_is_missing_is_named(ask, planets, generator, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no generator"):
        list(ask(planets, tmp_path / "none.litertlm", "red?", 100))
    generator.write_bytes(b"other")
    with pytest.raises(InputError, match="Failed to create"):
        list(ask(planets, generator, "red?", 100))
    generator.write_bytes(b"encoder")
    with pytest.raises(InputError, match="no generator"):
        list(ask(planets, generator, "red?", 100))
    monkeypatch.setitem(sys.modules, "litert_lm", None)
    with pytest.raises(InputError, match="pip install 'litert-lm-api"):
        list(ask(planets, generator, "red?", 100))
