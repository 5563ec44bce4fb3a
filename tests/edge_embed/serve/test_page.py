"""The search page in a real browser: typing, keys, an empty result, a server that is gone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edge_embed import Embedder, Index
from edge_embed.engine.cache_directory import default_directory
from edge_embed.serve.app import create_app
from edge_embed_bench.targets.browser import tools as browser_tools

from .conftest import serving

CACHE = default_directory()
"""The user's own cache, where npm's packages are: no test fetches anything."""

NOTES = [
    {"id": "mars.md", "text": "Mars is known as the red planet. <b>bold</b>", "title": "Planets"},
    {"id": "water.md", "text": "Water and stone, and a river that sings.", "title": "Water"},
]


@pytest.mark.device("browser")
def test_a_person_searches(tiny_model, tmp_path, monkeypatch):
    kept = CACHE / "targets" / browser_tools.directory().name
    monkeypatch.setattr(browser_tools, "directory", lambda: kept)
    tools = browser_tools.find(prepare=False, timeout=60)
    embedder = Embedder(tiny_model, weight_cache="memory", num_threads=1)
    path = tmp_path / "notes.db"
    with Index.open(path, embedder) as index:
        index.add(NOTES)
    driver = Path(__file__).with_name("drive_page.mjs")
    with serving(create_app(embedder, index=Index.open(path, embedder))) as client:
        url = f"http://127.0.0.1:{client.port}/"
        words = [tools.node, str(driver), str(tools.modules), tools.chromium, url, str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["errors"] == []
    assert all(request.startswith(url) for request in seen["requests"])
    assert seen["focusAtStart"] == "query"
    assert seen["status"].startswith("1 passage in ")
    assert seen["titles"] == ["Planets"]
    assert [word.lower() for word in seen["marks"]] == ["red", "planet"]
    assert seen["boldElements"] == 0
    assert (seen["afterDown"], seen["afterUp"], seen["afterEscape"]) == ("LI", "query", "query")
    assert "<b>bold</b>" in seen["opened"]
    assert seen["nothing"] == "Nothing found for “zebra”."
    assert seen["gone"] == "The server does not answer. Is it still running?"
    assert (tmp_path / "light.png").stat().st_size > 5000
