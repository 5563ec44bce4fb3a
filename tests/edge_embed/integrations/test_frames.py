"""`Embed` over each kind of batch that engines hand out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from edge_embed.errors import InputError
from edge_embed.integrations.frames import Embed

pd = pytest.importorskip("pandas")

ROWS = {"n": [1, 2, 3, 4], "text": ["water", None, "red planet", 5], "title": ["A", "B", None, "D"]}


@pytest.fixture(scope="module")
def embed(tiny_model):
    return Embed(tiny_model, role="document", titles_field="title", on_error="skip", weight_cache="memory")


@pytest.fixture(scope="module")
def expected(embed):
    return embed.embedder.encode_document(["water", "red planet"], titles=["A", None])


def test_a_table(embed, expected):
    table = pa.table({**ROWS, "text": ["water", None, "red planet", None]})
    got = embed(table)
    assert got["n"].to_pylist() == [1, 3]
    assert got["embedding"].combine_chunks().values.to_numpy().tobytes() == expected.tobytes()
    again = embed(got)  # an old column of vectors is replaced
    assert again.column_names == got.column_names


def test_a_data_frame(embed, expected):
    frame = pd.DataFrame(ROWS, index=[7, 8, 9, 10])
    got = embed(frame)
    assert list(got["n"]) == [1, 3]
    assert list(got.index) == [7, 9]
    np.testing.assert_array_equal(np.stack(list(got["embedding"])), expected)
    assert "embedding" not in frame


def test_a_mapping_of_arrays(embed, expected):
    batch = {name: np.array(values, object) for name, values in ROWS.items()}
    got = embed(batch)
    assert list(got["n"]) == [1, 3]
    np.testing.assert_array_equal(got["embedding"], expected)


def test_errors(tiny_model, embed):
    stop = Embed(tiny_model, weight_cache="memory", field="text")
    with pytest.raises(InputError, match="item 1"):
        stop(pa.table({"text": ["a", None]}))
    with pytest.raises(InputError, match="no column 'text'"):
        stop({"n": [1]})
    for options in ({"on_error": "drop"}, {"titles_field": "t"}, {"graph": "0" * 64}):
        with pytest.raises(InputError):
            Embed(embed.embedder.path, weight_cache="memory", **options)
    empty = stop(pa.table({"text": pa.array([], pa.string())}))
    assert empty.num_rows == 0
    assert "embedding" in empty.column_names
