"""What the tests of the model file share."""

import zipfile

import pytest


@pytest.fixture
def parts(tiny_model, tiny_graph):
    """The graph and the zip members of the tiny model, by name."""
    with zipfile.ZipFile(tiny_model) as archive:
        return tiny_graph, {name: archive.read(name) for name in archive.namelist()}
