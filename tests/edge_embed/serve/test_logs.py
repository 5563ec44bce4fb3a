"""The log of the requests."""

import asyncio
import json
import logging

import pytest

from edge_embed.serve import logs


@pytest.fixture
def records(monkeypatch):
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    monkeypatch.setattr(logs.log, "handlers", [handler])
    before = logs.log.level
    logs.log.setLevel(logging.INFO)
    yield kept
    logs.log.setLevel(before)


def test_lines_of_a_moment_are_one_record(records):
    async def requests():
        log = logs.RequestLog(as_json=False)
        log.add({"id": "a", "path": '/"\n', "status": 200, "ms": 1.5})
        log.add({"id": "b", "path": "/", "status": 404, "ms": 0.1})
        assert not records
        await asyncio.sleep(3 * logs.DELAY)
        log.add({"id": "c"})
        await asyncio.sleep(3 * logs.DELAY)

    asyncio.run(requests())
    first, second = (record.getMessage() for record in records)
    assert first.splitlines() == [
        r'id="a" path="/\"\n" status=200 ms=1.5',
        'id="b" path="/" status=404 ms=0.1',
    ]
    assert second == 'id="c"'


def test_many_lines_do_not_wait(records, monkeypatch):
    monkeypatch.setattr(logs, "MOST_WAITING", 3)

    async def requests():
        log = logs.RequestLog(as_json=True)
        for number in range(7):
            log.add({"id": number})
        assert len(records) == 2
        log.flush()

    asyncio.run(requests())
    lines = "\n".join(record.getMessage() for record in records).splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(7))


def test_nobody_reads(records):
    assert logs.RequestLog(as_json=True).wanted
    logs.log.setLevel(logging.WARNING)
    assert not logs.RequestLog(as_json=True).wanted
