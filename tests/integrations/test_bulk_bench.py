"""The measurement of a Ray cluster, on the tiny model: every turn is made and the report written."""

from __future__ import annotations

import json

from edge_embed_bench.published import bulk


def test_every_turn_is_made(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bulk, "SAMPLE_SECONDS", 0.05)
    corpus, output = tmp_path / "a.jsonl", tmp_path / "bulk-ray.json"
    corpus.write_text("".join(json.dumps({"body": f"water {row}"}) + "\n" for row in range(300)))
    words = [str(tiny_model), "--corpus", str(corpus), "--field", "body", "--limit", "200", "--rounds", "2"]
    bulk.main([*words, "--workers", "1", "--output", f"{output},{output.with_suffix('.md')}"])
    document = json.loads(output.read_text())
    assert len(document["rounds"]) == 2
    for turn in document["rounds"]:
        assert {name: turn[name]["texts"] for name in turn} == {"bulk": 200, "single": 200, "ray": 200}
    assert str(tmp_path) not in document["command"]
    assert output.with_suffix(".md").read_text() == capsys.readouterr().out
