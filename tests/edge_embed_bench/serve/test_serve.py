"""The load generator against a server that answers as it is told, and the command against the real one."""

from __future__ import annotations

import base64
import itertools
import json
import socketserver
import threading

import numpy as np
import pytest

from edge_embed.cli import main
from edge_embed_bench.errors import WorkerError
from edge_embed_bench.serve import bench, clients, soak

VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def start():
    """Starts a server that answers each request by a function from its path and body to status and body."""
    servers = []

    def begin(answer):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while line := self.rfile.readline():
                    headers = {}
                    while (header := self.rfile.readline().strip().lower()) != b"":
                        name, _, value = header.partition(b": ")
                        headers[name] = value
                    body = self.rfile.read(int(headers[b"content-length"]))
                    status, content = answer(line.split()[1].decode(), body)
                    if status is None:
                        return
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                    self.wfile.write(head + content[:1])
                    self.wfile.flush()
                    self.wfile.write(content[1:])
                    if headers[b"connection"] == b"close":
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 64

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return server.server_address[1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def good(path, body):
    """Answers as a right server does."""
    for bad_path, bad_body, status in soak.BAD:
        if (path, body) == (bad_path, bad_body):
            return status, b"{}"
    data = [
        {"embedding": base64.b64encode(VECTORS[int(text)].tobytes()).decode()}
        for text in json.loads(body)["input"]
    ]
    return 200, json.dumps({"data": data}).encode()


def test_clients_wait_for_their_answers(start):
    calls, all_are_here, under_way, most = itertools.count(), threading.Barrier(4), [], []

    def answer(path, body):
        under_way.append(1)
        most.append(len(under_way))
        if next(calls) < 4:
            all_are_here.wait(30)
        under_way.pop()
        return 200, b"body"

    seen = []
    turn = clients.closed_loop(
        start(answer),
        clients.post("/", b"{}"),
        clients=4,
        seconds=0.2,
        check=lambda reply: seen.append(reply.body),
    )
    assert max(most) == 4
    assert set(seen) == {b"body"}
    assert turn.statuses == {200: len(turn.latencies)}
    assert len(seen) - len(turn.latencies) <= 4  # those under way at the end do not count


def test_an_open_loop_does_not_wait(start):
    calls = iter(range(10**6))

    def answer(path, body):
        return (200, b"a") if next(calls) % 2 else (429, b"b")

    turn = clients.open_loop(
        start(answer),
        clients.post("/", b"{}"),
        rate=200,
        seconds=0.3,
        connections=8,
        check=lambda reply: None,
    )
    assert 0 < sum(turn.statuses.values()) + turn.unsent <= 60  # 200 a second for 0.3 seconds
    assert abs(len(turn.latencies) - len(turn.refused)) <= 1


def test_a_soak_counts_what_was_wrong(start):
    plan = soak.shots(["0", "1", "2"], requests=400)
    assert sum(shot.status != 200 for shot in plan) >= 70
    right = soak.soak(start(good), plan, VECTORS, lambda: 5)
    assert (right.requests, right.short, right.abandoned) == (400, 20, 4)
    assert (right.wrong_vectors, right.wrong_statuses, right.lost) == (0, 0, 0)
    assert right.vectors >= 250
    assert len(right.memory) == 5

    def broken(path, body):
        status, content = good(path, body)
        if status == 200 and b'"1"' in body:
            return 200, content.replace(
                base64.b64encode(VECTORS[1].tobytes()), base64.b64encode(VECTORS[2].tobytes())
            )
        if path == "/nothing":
            return None, b""
        return (400 if status == 404 else status), content

    wrong = soak.soak(start(broken), plan, VECTORS, lambda: 5)
    ones = sum(shot.texts.count(1) for shot in plan if not shot.abandoned)
    lost = sum(b"/nothing" in shot.request for shot in plan)
    another = sum(b"another" in shot.request for shot in plan)
    assert (wrong.wrong_vectors, wrong.lost, wrong.wrong_statuses) == (ones, lost, another)
    assert min(ones, lost, another) > 0


def test_growth_is_what_came_after_the_first_thousand():
    found = soak.Soak(memory=[5, 9, *[7] * 8, 8, 12, 6])
    assert found.growth == 3
    assert soak.Soak(memory=[5, 9, *[7] * 8]).growth is None


def test_a_wrong_vector_ends_the_run():
    check = bench._checker(VECTORS[1])
    body = json.dumps({"data": [{"embedding": base64.b64encode(VECTORS[1].tobytes()).decode()}]}).encode()
    check(clients.Reply(200, body, 0.1))
    other = json.dumps({"data": [{"embedding": base64.b64encode(VECTORS[2].tobytes()).decode()}]}).encode()
    with pytest.raises(WorkerError, match="wrong vector"):
        check(clients.Reply(200, other, 0.1))
    with pytest.raises(WorkerError, match="refused"):
        check(clients.Reply(500, b"", 0.1))


def test_the_servers_processor_time_belongs_to_the_turn(monkeypatch):
    running = bench.Server(1, None)
    times = iter([2.0, 5.5])
    monkeypatch.setattr(bench.Server, "processor", lambda server: next(times))
    turn = bench._measured(running, lambda: clients.Turn(seconds=7.0))
    assert (turn.seconds, turn.server_seconds) == (7.0, 3.5)


def test_command_writes_its_reports(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(bench, "TEXTS", 10)
    outputs = [tmp_path / "r.json", tmp_path / "r.md"]
    words = ["bench", tiny_model, "--serve", "--threads", "1", "--rounds", "1", "--requests", "120"]
    assert main([*map(str, words), "--output", ",".join(map(str, outputs))]) == 0
    document = json.loads(outputs[0].read_text())
    soaked = document["soak"]
    assert (soaked["requests"], soaked["lost"], soaked["wrong_vectors"]) == (120, 0, 0)
    assert soaked["vectors"] > 60
    assert len(document["rounds"]) == 1
    assert document["rounds"][0]["crowd"]["latencies"]
    assert set(document["overload"]) == {"offered", "usual", "over"}
    text = outputs[1].read_text()
    assert "share of bulk" in text
    assert "processor time of the server" in text
    assert "share of bulk" in capsys.readouterr().out
