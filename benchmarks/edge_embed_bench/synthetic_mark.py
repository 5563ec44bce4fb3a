"""How a random model is told from a real one, whoever made its file."""

from __future__ import annotations

from edge_embed._manifest import Manifest

MARK = "synthetic"
"""The manifest's source of a random checkpoint starts with this; the checkpoint's directory does too."""


def is_synthetic(manifest: Manifest) -> bool:
    """Tells whether the weights are random, so that no figure speaks of quality."""
    return manifest.source.id.rsplit("/", 1)[-1].startswith(MARK)
