"""The model that comes with the package: what `Embedder()` and commands without a MODEL load."""

from __future__ import annotations

from pathlib import Path

NAME = "edge-embed-mini"
"""What the model is called. Its recipe, its data and its figures are in `training/recipes/mini`."""

PATH = Path(__file__).with_name(f"{NAME}.tflite")
"""The file."""
