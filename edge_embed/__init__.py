"""Run quantized sentence encoders on the device, from one file that proves itself at load."""

from edge_embed._version import __version__
from edge_embed.embedder import Embedder
from edge_embed.errors import EdgeEmbedError

__all__ = ["EdgeEmbedError", "Embedder", "__version__"]
