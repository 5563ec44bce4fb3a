"""Loaded tiny models, one of each kind of tokenizer."""

import signal

import pytest

from edge_embed import Embedder


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts this process and those that it starts; a shell's background processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(mount_small_disk):
    """A disk of two megabytes; a file named `other` fills half of it."""
    return mount_small_disk(2, other=1)


@pytest.fixture(scope="module", params=["tiny_model", "tiny_sentencepiece_model"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(path):
    with Embedder(path, weight_cache="memory") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def words(tiny_model):
    """A model with one id per word, for counting."""
    with Embedder(tiny_model, weight_cache="memory") as loaded:
        yield loaded
