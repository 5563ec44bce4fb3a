"""`python -m edge_embed` is the command `edge_embed`."""

from __future__ import annotations

import sys

from edge_embed.cli import main

if __name__ == "__main__":
    sys.exit(main())
