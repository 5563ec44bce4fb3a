"""The comparison behind the gate, on vectors whose answers are known."""

import dataclasses
import json

import numpy as np
import pytest

from edge_embed.errors import ParityError
from edge_embed.proof.parity import LABELS, compare, format_report

THRESHOLDS = {"cosine_mean": 0.99, "cosine_min": 0.98, "neighbours": 0.9, "norm_error_max": 1e-3}


@pytest.fixture
def unit():
    vectors = np.random.default_rng(5).normal(size=(20, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def run(ours, reference, thresholds=THRESHOLDS, mismatches=0, k=5):
    lengths = [16 if i % 2 else 64 for i in range(len(ours))]
    return compare(ours, reference, lengths, token_mismatches=mismatches, thresholds=thresholds, k=k)


def test_equal_vectors_pass(unit):
    parity = run(unit, unit)
    assert parity.passed
    assert parity.failures == []
    assert parity.cosine_min == pytest.approx(1)
    assert parity.neighbours == 1
    assert [(b.length, b.probes) for b in parity.buckets] == [(16, 10), (64, 10)]


def test_one_bad_probe_shows_in_its_bucket_and_names_the_bound(unit):
    ours = unit.copy()
    ours[3] = -ours[3]
    parity = run(ours, unit)
    assert not parity.passed
    assert parity.cosine_min == pytest.approx(-1)
    assert parity.buckets[0].cosine_min == pytest.approx(-1)
    assert parity.buckets[1].cosine_min == pytest.approx(1)
    assert any("cosine_min" in f and "got -1" in f and "0.98" in f for f in parity.failures)


@pytest.mark.parametrize(
    ("value", "counter"), [(np.nan, "non_finite"), (np.inf, "non_finite"), (0, "zero_vectors")]
)
def test_unusable_vectors_fail_whatever_the_thresholds(unit, value, counter):
    ours = unit.copy()
    ours[2] = value
    parity = run(ours, unit, thresholds={})
    assert not parity.passed
    assert getattr(parity, counter) == 1
    assert len(parity.failures) == 1
    assert parity.cosine_min == 0
    # The report goes into JSON, which has no NaN.
    json.dumps(dataclasses.asdict(parity), allow_nan=False)


def test_all_vectors_unusable(unit):
    parity = run(np.full_like(unit, np.nan), unit)
    assert parity.non_finite == len(unit)
    json.dumps(dataclasses.asdict(parity), allow_nan=False)


def test_token_mismatches_fail(unit):
    parity = run(unit, unit, mismatches=2)
    assert [f for f in parity.failures if "token_mismatches" in f and "got 2" in f]


def test_norms_are_judged_only_where_the_source_is_normalized(unit):
    assert not run(unit * 1.01, unit).passed
    parity = run(unit * 7 * 1.01, unit * 7)
    assert parity.passed
    assert parity.norm_error_max == pytest.approx(0.01, rel=1e-3)


def test_neighbours_are_the_share_in_common():
    angles = np.radians([0, 10, 25, 180])
    reference = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    moved = np.radians([0, -30, 25, 180])
    ours = np.stack([np.cos(moved), np.sin(moved)], axis=1)
    # Nearest under the source: 1, 0, 1, 2. Under the file: 2, 0, 0, 1.
    assert run(ours, reference, thresholds={}, k=1).neighbours == pytest.approx(1 / 4)


def test_equal_texts_are_ties_on_both_sides(unit):
    reference = np.repeat(unit[:2], 10, axis=0)
    noisy = reference @ np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    assert run(noisy, reference, thresholds={}).neighbours == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_probes(unit, count):
    parity = run(unit[:count], unit[:count])
    assert parity.passed
    assert parity.neighbours_k == count - 1


def test_a_bound_of_nan_fails(unit):
    assert not run(unit, unit, thresholds={"cosine_min": float("nan")}).passed


@pytest.mark.parametrize("case", ["shape", "lengths", "empty", "nan", "zero", "threshold"])
def test_what_cannot_be_compared(unit, case):
    reference, ours, lengths, thresholds = unit.copy(), unit, [16] * len(unit), {}
    if case == "shape":
        ours = unit[:, :8]
    elif case == "lengths":
        lengths = [16]
    elif case == "empty":
        ours, reference, lengths = unit[:0], unit[:0], []
    elif case == "threshold":
        thresholds = {"cosine": 1.0}
    else:
        reference[1] = np.nan if case == "nan" else 0
    with pytest.raises(ParityError):
        compare(ours, reference, lengths, token_mismatches=0, thresholds=thresholds, k=5)


def test_the_report_shows_every_figure_and_failure(unit):
    ours = unit.copy()
    ours[0] = np.nan
    parity = run(ours, unit)
    text = format_report(parity)
    assert all(label in text for label in LABELS.values())
    assert all(f"FAILED: {failure}" in text for failure in parity.failures)
    assert format_report(run(unit, unit)).endswith("passed")


def test_a_bound_that_does_not_apply_is_not_printed():
    source = np.array([[3.0, 0.0], [0.0, 2.0]])  # a model without Normalize
    report = compare(
        source * 1.005, source, [16, 16], token_mismatches=0, thresholds={"norm_error_max": 1e-3}, k=1
    )
    assert report.passed
    assert "norm_error_max" not in report.thresholds
    (line,) = [line for line in format_report(report).splitlines() if "norm error" in line]
    assert "at most" not in line
