"""The command line: `edge_embed <verb>`.

Each command is one module. `edge_embed.cli.commands` says what such a module holds and how another package
adds one. Other packages may use `main`, `edge_embed.cli.options` (options that several commands share) and
`edge_embed.cli.files` (texts in, vectors out).
"""

from edge_embed.cli.program import main

__all__ = ["main"]
