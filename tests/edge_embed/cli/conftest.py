"""Runs commands in this process, as a program would see them."""

import json
from dataclasses import dataclass

import pytest

from edge_embed.cli import main


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capsys):
    """`run("embed", path, "text")` returns the exit code and what was printed."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call
