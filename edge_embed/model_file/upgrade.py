"""Manifests of older schemas, brought to the present one when they are read.

Files are never converted again for a new schema: whatever was published loads for good. A new optional field
needs nothing here (see `schema`). When the schema version must rise, because an older reader would give a
wrong answer, `SCHEMA_VERSION` and one step in `STEPS` change together, and a file of the old version joins
`tests/golden`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_embed.errors import ManifestError

SCHEMA_VERSION = 1
"""The version that is written, and the newest that can be read."""

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: Mapping[int, Step] = {}
"""By schema version: the function that turns a manifest of that version into one of the next."""


def upgrade(
    raw: Mapping[str, Any], *, steps: Mapping[int, Step] = STEPS, newest: int = SCHEMA_VERSION
) -> dict[str, Any]:
    """Returns a manifest of any readable schema as one of the newest schema. Leaves the argument as it is.

    Args:
        raw: The parsed JSON.
        steps: The steps to take.
        newest: The version to reach.

    Raises:
        ManifestError: If the manifest does not state a version, or states a newer one.
    """
    version = raw.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ManifestError("the manifest has no schema version", got=repr(version), expected="a number")
    if version > newest:
        raise ManifestError(
            "the file was written by a newer edge_embed",
            got=f"manifest schema {version}",
            expected=f"at most {newest}",
            fix="pip install --upgrade edge-embed",
        )
    manifest = dict(raw)
    for step in range(version, newest):
        manifest = {**steps[step](manifest), "schema_version": step + 1}
    return manifest
