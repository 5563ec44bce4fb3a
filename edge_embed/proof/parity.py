"""Agreement between a model file and its fp32 source: the arithmetic and its report.

The converter's gate before saving and `edge_embed verify` on the device use this same code, so that
the two can never disagree about what passing means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_embed.errors import ParityError
from edge_embed.model_file.manifest import BucketParity, Parity
from edge_embed.similarity import top

LOWER_BOUNDS = ("cosine_mean", "cosine_min", "neighbours")
UPPER_BOUNDS = ("norm_error_max",)

LABELS = {
    "cosine_mean": "cosine, mean",
    "cosine_min": "cosine, lowest",
    "neighbours": "neighbours in common",
    "norm_error_max": "norm error, highest",
    "non_finite": "vectors not finite",
    "zero_vectors": "vectors all zero",
    "token_mismatches": "token mismatches",
}
"""Every figure that is judged, by its field of `Parity`, in the order of the report."""

_UNIT_TOLERANCE = 1e-3
"""A source whose norms stay this close to 1 is taken as normalized."""

_TIE_DECIMALS = 9
"""Equal texts have equal similarities but for the order of summation; rounding makes them ties again."""

_Matrix = npt.NDArray[np.float64]


def compare(
    ours: npt.ArrayLike,
    reference: npt.ArrayLike,
    lengths: Sequence[int],
    *,
    token_mismatches: int,
    thresholds: Mapping[str, float],
    k: int,
) -> Parity:
    """Compares a file's vectors with its source's, probe by probe.

    A vector that is not finite or all zero has cosine 0 with anything, and fails the comparison by itself.

    Args:
        ours: The file's vectors, shape ``(probes, dimension)``.
        reference: The fp32 source's vectors, same shape.
        lengths: The bucket each probe ran in.
        token_mismatches: How many probes were tokenized differently from the source.
        thresholds: Bounds by name: lower ones for `cosine_mean`, `cosine_min` and `neighbours`, an upper
            one for `norm_error_max`, which applies only where the source's vectors have unit length. What
            has no threshold is reported and not judged.
        k: How many nearest neighbours of each probe to compare; fewer where there are fewer probes.

    Returns:
        The report, with one entry of `failures` per figure out of bounds.

    Raises:
        ParityError: If there is nothing to compare, the shapes differ, the source's own vectors are not
            usable, or a threshold is unknown.
    """
    file, source = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    _check(file, source, lengths, thresholds)
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(file), axis=1)
    norms = np.linalg.norm(np.where(finite[:, None], file, 0.0), axis=1)
    usable = norms > 0.0
    source_norms = np.linalg.norm(source, axis=1)
    unit = np.where(usable[:, None], file, 0.0) / np.where(usable, norms, 1.0)[:, None]
    source_unit = source / source_norms[:, None]

    cosines = np.clip((unit * source_unit).sum(axis=1), -1.0, 1.0)
    normalized = bool(np.all(np.abs(source_norms - 1.0) <= _UNIT_TOLERANCE))
    # Relative where the source is not normalized: there its norms carry the scale.
    norm_errors = np.abs(norms / (1.0 if normalized else source_norms) - 1.0)[usable]
    k = min(k, len(file) - 1)
    figures = {
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "neighbours": _shared_neighbours(unit, source_unit, k),
        "norm_error_max": float(norm_errors.max(initial=0.0)),
    }
    counts = {
        "non_finite": int((~finite).sum()),
        "zero_vectors": int((finite & ~usable).sum()),
        "token_mismatches": int(token_mismatches),
    }
    judged = {key: limit for key, limit in thresholds.items() if normalized or key != "norm_error_max"}
    failures = _failures(figures, counts, judged)
    return Parity(
        passed=not failures,
        failures=failures,
        probes=len(file),
        neighbours_k=k,
        thresholds=judged,
        buckets=_per_bucket(cosines, np.asarray(lengths)),
        cosine_mean=figures["cosine_mean"],
        cosine_min=figures["cosine_min"],
        neighbours=figures["neighbours"],
        norm_error_max=figures["norm_error_max"],
        non_finite=counts["non_finite"],
        zero_vectors=counts["zero_vectors"],
        token_mismatches=counts["token_mismatches"],
    )


def format_report(parity: Parity) -> str:
    """Returns the report as a plain-text table: each figure beside its bound, then each bucket."""
    verdict = "passed" if parity.passed else "FAILED"
    rows = [(f"agreement with the source in float32, {parity.probes} probes", "got", "wanted")]
    for key, label in LABELS.items():
        value = getattr(parity, key)
        if key in LOWER_BOUNDS + UPPER_BOUNDS:
            limit = parity.thresholds.get(key)
            sign = "at least" if key in LOWER_BOUNDS else "at most"
            wanted = "" if limit is None else f"{sign} {_number(limit)}"
        else:
            wanted = "0"
        name = f"{label} ({parity.neighbours_k} nearest)" if key == "neighbours" else label
        rows.append((f"  {name}", _number(value), wanted))
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [f"{name:<{first}}  {got:>{second}}  {wanted}".rstrip() for name, got, wanted in rows]
    lines.append(f"  {'bucket':>8} {'probes':>8} {'cosine, mean':>14} {'cosine, lowest':>16}")
    lines += [
        f"  {b.length:>8} {b.probes:>8} {b.cosine_mean:>14.6f} {b.cosine_min:>16.6f}" for b in parity.buckets
    ]
    lines += [f"{verdict}: {text}" for text in parity.failures] or [verdict]
    return "\n".join(lines)


def _check(file: _Matrix, source: _Matrix, lengths: Sequence[int], thresholds: Mapping[str, float]) -> None:
    if file.ndim != 2 or file.shape != source.shape or len(lengths) != len(file) or not file.size:
        raise ParityError(
            "the vectors to compare do not match in number or size",
            got=f"shapes {file.shape} and {source.shape}, {len(lengths)} lengths",
            expected="two equal shapes (probes, dimension) and a length for each probe",
        )
    if not np.isfinite(source).all() or not np.any(source, axis=1).all():
        raise ParityError(
            "the source's own vectors are not usable",
            got="values that are not finite, or a vector of zeros",
            fix="check the checkpoint; nothing can be compared with it",
        )
    unknown = sorted(set(thresholds) - {*LOWER_BOUNDS, *UPPER_BOUNDS})
    if unknown:
        raise ParityError(
            "a threshold has an unknown name",
            got=", ".join(unknown),
            expected=", ".join(LOWER_BOUNDS + UPPER_BOUNDS),
        )


def _failures(
    figures: Mapping[str, float], counts: Mapping[str, int], thresholds: Mapping[str, float]
) -> list[str]:
    failures = []
    for key, limit in thresholds.items():
        got, lower = figures[key], key in LOWER_BOUNDS
        # Written so that a bound of NaN fails.
        if not (got >= limit if lower else got <= limit):
            bound = "at least" if lower else "at most"
            failures.append(f"{LABELS[key]} ({key}): got {got:.6g}, threshold {bound} {limit:.6g}")
    failures += [f"{LABELS[key]} ({key}): got {n}, threshold 0" for key, n in counts.items() if n]
    return failures


def _shared_neighbours(unit: _Matrix, source_unit: _Matrix, k: int) -> float:
    """Returns the mean share of common members between each probe's `k` nearest under either."""
    if k < 1:
        return 1.0
    pairs = zip(_nearest(unit, k), _nearest(source_unit, k), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))


def _nearest(unit: _Matrix, k: int) -> npt.NDArray[np.intp]:
    similarity = np.round(unit @ unit.T, _TIE_DECIMALS)
    np.fill_diagonal(similarity, -np.inf)
    return top(similarity, k)


def _per_bucket(cosines: _Matrix, lengths: npt.NDArray[np.int_]) -> list[BucketParity]:
    report = []
    for length in np.unique(lengths):
        chosen = cosines[lengths == length]
        report.append(BucketParity(int(length), len(chosen), float(chosen.mean()), float(chosen.min())))
    return report


def _number(value: float) -> str:
    if isinstance(value, int) or value == 0:
        return f"{value:g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) >= 1e-3 else f"{value:.1e}"
