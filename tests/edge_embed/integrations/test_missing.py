"""An adapter whose library is missing says which, and what to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from edge_embed.errors import MissingExtraError


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("haystack", "haystack", "haystack"),
        ("chroma", "chromadb", "chroma"),
        ("ray", "ray", "ray"),
    ],
)
def test_the_import_names_package_and_extra(monkeypatch, module, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"edge_embed.integrations.{module}", raising=False)
    with pytest.raises(MissingExtraError) as error:
        importlib.import_module(f"edge_embed.integrations.{module}")
    assert repr(package) in str(error.value)
    assert f"pip install 'edge-embed[{extra}]'" in str(error.value)
