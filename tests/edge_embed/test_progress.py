"""Progress bars by a clock of the test's own."""

from __future__ import annotations

import re

import tqdm.std

from edge_embed.progress import progress_bar


def test_the_rate_counts_what_this_run_has_done(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    with progress_bar(None, "embedding", show=True) as bar:
        bar.begin(1000, 600)
        for _ in range(4):
            now[0] += 1.0
            bar(50)
    shown = capsys.readouterr().err
    assert "800/1000" in shown
    assert set(re.findall(r"([\d.]+)text/s", shown)) == {"50.00"}


def test_nothing_is_shown_where_nobody_looks(capsys):
    with progress_bar(None, "embedding") as bar:
        bar.begin(1000, 600)
        bar(50)
    assert capsys.readouterr().err == ""
