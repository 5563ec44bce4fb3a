"""Other servers beside ours, and what the report makes of them."""

from __future__ import annotations

import shlex
import sys

import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed_bench.serve import peers, report

VECTOR = np.arange(4, dtype=np.float32)


def test_peers_take_turns_and_a_wrong_one_is_an_error(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(
        """
import http.server, json, sys, time

class Handler(http.server.BaseHTTPRequestHandler):  # HTTP/1.0, and no length: the answer ends the connection
    def log_message(self, *words):
        pass

    def answer(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def do_GET(self):
        self.answer({"data": [{"id": "its-model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert body["model"] == "its-model"
        self.answer({"data": [{"embedding": json.loads(sys.argv[2])}]})

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
    )
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} {{port}} "
    given = [
        peers.Peer("right", command + "[0.001,1,2,3]"),
        peers.Peer("wrong", command + "[3,1,2,0]"),
        peers.Peer(
            "broken", f"{shlex.quote(sys.executable)} -c 'raise SystemExit(\"no such model\")' {{port}}"
        ),
        peers.Peer("missing", "/no/such/program {port}"),
    ]
    with peers.started(given) as running:
        for each in running:
            peers.play(each, "text", VECTOR, clients=4, seconds=0.2)
    right, wrong, broken, missing = running
    assert right.error == ""
    assert right.turns[0].statuses[200] > 3
    assert "another vector" in wrong.error
    assert "no such model" in broken.error
    assert "No such file" in missing.error
    assert not wrong.turns + broken.turns + missing.turns


def test_a_peer_needs_a_name_and_a_port():
    assert peers.parse_peer("a=b=c --port {port}") == peers.Peer("a", "b=c --port {port}")
    for words in ("litert-lm", "=serve {port}", "a=serve --port 80"):
        with pytest.raises(InputError, match="cannot be used"):
            peers.parse_peer(words)


def test_the_report_compares_with_the_best_peer():
    turn = {"statuses": {"200": 100}, "seconds": 1.0}
    document = {
        "clients": 32,
        "peers": {
            "slow": {"error": "", "turns": [turn]},
            "fast": {"error": "", "turns": [{**turn, "seconds": 0.5}] * 3},
            "wrong": {"error": "another vector", "turns": [{**turn, "seconds": 0.1}]},
        },
    }
    rows = report._peer_rows(document, [500.0, 600.0, 700.0])
    assert [value for _, value, _ in rows] == [
        "100 (100 to 100)",
        "200 (200 to 200)",
        "error: another vector",
        "3.00",
    ]
