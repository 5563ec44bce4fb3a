"""The example that feeds a generator, beside the generator's real runtime: what it calls is there.

No small generator is at hand, so none answers. Files that are no generator are refused by the runtime itself.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import litert_lm
import pytest

from edge_embed.default_model import PATH as DEFAULT_MODEL
from edge_embed.errors import InputError
from edge_embed_convert.containers.export import export

ROOT = Path(__file__).parents[2]
QUESTION = "why is Mars red?"


@pytest.fixture(scope="module")
def answer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("answer", ROOT / "examples" / "rag" / "answer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Context(str):
    """What `Index.context` returns, as far as the example uses it."""

    passages = ("Mars is red.",)


@pytest.fixture
def index() -> Any:
    return SimpleNamespace(context=lambda question, max_tokens: Context("[1] Mars\nMars is red."))


def test_the_runtime_takes_what_the_example_gives(
    answer: ModuleType, index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is bound to the signature of the real class, and answers what the real class answers."""
    given: list[dict[str, Any]] = []

    def bound(owner: type, name: str) -> Any:
        real = inspect.signature(getattr(owner, name))

        def call(*words: Any, **options: Any) -> dict[str, Any]:
            arguments = real.bind(*words, **options).arguments
            given.append({"call": name, **{key: arguments[key] for key in arguments if key != "self"}})
            return arguments

        return call

    read = bound(litert_lm.ModelInfo, "__init__")
    init = bound(litert_lm.Engine, "__init__")
    create = bound(litert_lm.Engine, "create_conversation")
    send = bound(litert_lm.Conversation, "send_message_async")

    class Conversation:
        __enter__, __exit__ = lambda self: self, lambda self, *error: None
        assert hasattr(litert_lm.Conversation, "__enter__")

        def send_message_async(self, *words: Any, **options: Any) -> Any:
            send(self, *words, **options)
            for text in ("Iron ", "oxide [1]."):
                content = [{"type": "text", "text": text}]
                yield litert_lm.Message.from_json({"role": "assistant", "content": content})

    class Engine:
        __enter__, __exit__ = lambda self: self, lambda self, *error: None
        assert hasattr(litert_lm.Engine, "__enter__")

        def __init__(self, *words: Any, **options: Any) -> None:
            init(self, *words, **options)

        def create_conversation(self, *words: Any, **options: Any) -> Conversation:
            create(self, *words, **options)
            return Conversation()

    class ModelInfo(Conversation):
        is_embedding_model = False
        assert hasattr(litert_lm.ModelInfo, "is_embedding_model")

        def __init__(self, *words: Any, **options: Any) -> None:
            read(self, *words, **options)

    monkeypatch.setattr(litert_lm, "Engine", Engine)
    monkeypatch.setattr(litert_lm, "ModelInfo", ModelInfo)
    generator = tmp_path / "generator.litertlm"
    generator.touch()
    printed = "".join(answer.ask(index, generator, QUESTION, 100))
    assert printed == "[1] Mars\nMars is red.\n\nIron oxide [1]."
    assert given == [
        {"call": "__init__", "model_path": str(generator)},
        {"call": "__init__", "model_path": str(generator)},
        {"call": "create_conversation", "system_message": answer.INSTRUCTION},
        {"call": "send_message_async", "message": f"[1] Mars\nMars is red.\n\nQuestion: {QUESTION}"},
    ]


@pytest.mark.parametrize("kind", ["empty", "noise", "graph", "encoder"])
def test_a_file_that_is_no_generator_is_one_error(
    answer: ModuleType, index: Any, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "generator.litertlm"
    graph = ROOT / "tests" / "golden" / "tiny.tflite"
    if kind == "encoder":
        export(DEFAULT_MODEL, "litertlm", path)
    else:
        path.write_bytes({"empty": b"", "noise": bytes(range(256)) * 8, "graph": graph.read_bytes()}[kind])
    said = r"generator\.litertlm is no generator" if kind == "encoder" else r"generator\.litertlm failed"
    with pytest.raises(InputError, match=said):
        list(answer.ask(index, path, QUESTION, 100))
