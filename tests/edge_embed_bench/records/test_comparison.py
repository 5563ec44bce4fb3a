"""Comparing: noise is not a regression, a regression is not noise."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed_bench.records import stats
from edge_embed_bench.records.comparison import (
    BETTER,
    GONE,
    NEW,
    SAME,
    UNCOMPARED,
    UNSURE,
    WORSE,
    compare_records,
    to_text,
)
from edge_embed_bench.records.record import FAILED, Storage, to_json
from edge_embed_bench.records.stats import median_ratio


def noisy(seed, factor=1.0, count=40):
    generator = np.random.default_rng(seed)
    return (0.01 * factor * np.exp(generator.normal(0, 0.1, count))).tolist()


def verdicts(old, new, threshold=0.05, **options):
    return {
        d.figure: d.verdict for d in compare_records([old], [new], threshold=threshold, **options).differences
    }


def kinds(old, new):
    return {d.verdict for d in compare_records(old, new, threshold=0.05).differences}


def test_noise_is_no_regression(record):
    found = verdicts(record(noisy(1)), record(noisy(2)))
    assert found.pop("load") == UNCOMPARED
    assert set(found.values()) == {SAME}


@pytest.mark.parametrize(("factor", "verdict"), [(1.3, WORSE), (0.7, BETTER), (1.02, SAME)])
def test_a_change_beyond_the_threshold(record, factor, verdict):
    assert verdicts(record(noisy(1)), record(noisy(2, factor)))["latency"] == verdict


def test_an_interval_that_straddles_the_threshold_is_said(record):
    wide = [0.010] * 5 + [0.030] * 5
    old, new = record(wide), record([s * 1.5 for s in wide])
    result = compare_records([old], [new], threshold=0.05)
    assert verdicts(old, new)["latency"] == UNSURE
    assert not result.failed
    assert "unsure: raise --repetitions" in to_text(result)


def test_two_builds_of_one_model_are_told_apart_by_file(record):
    first = record(noisy(1))
    second = replace(first, model=replace(first.model, file="other.tflite", sha256="1" * 64))
    slower = replace(second, latency=record(noisy(2, 1.5)).latency)
    (worse,) = compare_records([first, second], [first, slower], threshold=0.05).failed
    assert worse.figure == "latency"
    assert worse.subject.startswith("other.tflite, ")
    with pytest.raises(InputError, match="the same cell twice"):
        compare_records([first, first], [first], threshold=0.05)


def test_other_machines_and_versions_are_said(record):
    old = record(noisy(1))
    new = replace(
        old,
        machine=replace(old.machine, cpu="B CPU"),
        engine=replace(old.engine, versions={"edge-embed": "2"}),
    )
    text = to_text(compare_records([old], [new], threshold=0.05))
    assert "machine: A CPU" in text
    assert "packages: edge-embed 1 → edge-embed 2" in text
    assert "seed" not in text


def test_the_threshold_is_the_users(record):
    old, new = record(noisy(1)), record(noisy(2, 1.3))
    assert verdicts(old, new, threshold=0.5)["latency"] == SAME


def test_few_samples_are_not_compared(record):
    old, new = record([0.01] * 4), record([0.02] * 4)
    assert verdicts(old, new)["latency"] == UNCOMPARED
    with pytest.raises(InputError, match=r"(?s)no figure that can be compared.*4 samples"):
        verdicts(replace(old, memory=None, storage=None), replace(new, memory=None, storage=None))


def test_sizes_need_no_samples(record):
    old = record(noisy(1))
    new = replace(old, storage=Storage(25_300_000, 11_000_000))
    assert verdicts(old, new)["file size"] == WORSE
    assert verdicts(old, new)["cache size"] == SAME


def test_records_that_fail_vanish_or_come(record):
    old, other = record(noisy(1)), record(noisy(1), length=32)
    failed = replace(old, status=FAILED, error="died")
    assert verdicts(old, failed) == {"record": GONE}
    (gone,) = compare_records([old], [failed], threshold=0.05).failed
    assert gone.note == "died"
    assert kinds([old, other], [old]) == {SAME, UNCOMPARED, GONE}
    assert kinds([old], [old, other]) == {SAME, UNCOMPARED, NEW}
    assert verdicts(failed, old) == {"record": NEW}
    assert verdicts(old, replace(old, text_latency=None))["latency from text"] == GONE


def test_nothing_in_common(record):
    with pytest.raises(InputError, match="no cell in common"):
        compare_records([record()], [record(length=32)], threshold=0.05)
    assert verdicts(record(noisy(1)), record(noisy(1), name="other"), by_file=False)["latency"] == SAME


def test_the_interval_covers_the_truth():
    inside = 0
    for seed in range(60):
        ratio = median_ratio(noisy(seed), noisy(seed + 1000, 1.2))
        assert ratio.low <= ratio.value <= ratio.high
        inside += ratio.low <= 1.2 <= ratio.high
    assert inside >= 52


def test_samples_that_drift_widen_the_interval():
    # Ten slow samples in a row say less than ten slow ones among the others.
    level = np.repeat([1.0, 1.3, 1.0, 1.3], 10)
    shuffled = np.random.default_rng(0).permutation(level)
    wide = median_ratio(level, level)
    narrow = median_ratio(shuffled, shuffled)
    assert wide.high - wide.low >= narrow.high - narrow.low
    assert median_ratio(level, level) == wide


def test_text(record):
    text = to_text(compare_records([record(noisy(1))], [record(noisy(2, 1.3))], threshold=0.05))
    last = next(line for line in text.splitlines() if line.startswith("REGRESSION: "))
    assert re.search(r"16 tokens.*: latency [\d.]+ → [\d.]+ ms, \+3\d\.\d%, interval .*allowed \+5\.0%", last)
    assert "tiny.int8, local/cpu, 16 tokens, 2 threads, batch 1" in text
    assert "figures regressed" in text


def test_command_on_reports(bench, record, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(to_json([record(noisy(1))]), "utf-8")
    new.write_text(to_json([record(noisy(2, 1.3))]), "utf-8")
    assert bench("--compare", old, old).code == 0
    assert bench("--compare", old, new).code == 1
    assert bench("--compare", old, new, "--threshold", "60").code == 0
    result = bench("--compare", old, new, "--json")
    assert json.loads(result.out)["passed"] is False


def test_command_on_model_files(bench, tiny_model, tiny_sentencepiece_model):
    quick = ("--repetitions", "6", "--warmup", "1", "--loads", "1", "--threads", "1", "--threshold", "900")
    result = bench("--compare", tiny_model, tiny_sentencepiece_model, "--lengths", "8", *quick)
    assert result.code == 0, result.out + result.err
    assert "no regression" in result.out


def test_command_on_nonsense(bench, tiny_model, tmp_path):
    report = tmp_path / "x.json"
    report.write_text("{}")
    for words, problem in (
        (("--compare", report, report), "no benchmark records"),
        (("--compare", report, tiny_model), "cannot compare a report with a model file"),
        (("--compare", tmp_path / "none.json", report), "cannot read"),
        ((tiny_model, "--compare", report, report), "takes no other files"),
        (("--compare", report, report, "--lengths", "8"), "when two reports are compared"),
        (("--compare", tiny_model, tiny_model, "--peers", "openvino"), "leave --peers out"),
        (("--compare", report, report, "--threshold", "-3"), "percentage"),
    ):
        result = bench(*words)
        assert result.code == 2
        assert problem in result.err


def test_a_corpus_is_compared_call_by_call(bench, tiny_model, tmp_path):
    corpus, out = tmp_path / "c.txt", tmp_path / "r.json"
    corpus.write_text("the red planet\nwater\n" * 50, "utf-8")
    assert bench(tiny_model, "--corpus", corpus, "--batch", "2", "--threads", "1", "--output", out).code == 0
    result = bench("--compare", out, out)
    assert result.code == 0
    assert "corpus, per call" in result.out


def test_quantiles_stand_for_the_samples():
    few = [3.0, 1.0, 2.0]
    assert stats.quantiles(few) == few
    samples = np.random.default_rng(0).lognormal(size=5000)
    kept = stats.quantiles(samples)
    assert len(kept) == stats.QUANTILES
    for percent in (5, 50, 95):
        assert stats.percentile(kept, percent) == pytest.approx(stats.percentile(samples, percent), rel=0.02)
