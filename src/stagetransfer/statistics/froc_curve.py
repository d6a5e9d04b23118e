"""FROC curves: the share of lesions found against the mean number of false positives per case.

A candidate hits one lesion or none. A lesion is found at the score of its best candidate; further
candidates that hit it count neither as found nor as false (as in LUNA16, Setio et al. 2017, Med.
Image Anal. 42). Missed lesions count, and so do cases without lesions or without candidates: the
denominators come from the list of all cases and lesions. Cases are resampled with all that lies in
them; those with lesions and those without are drawn separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stagetransfer.statistics.bootstrap_resamples import Resamples, resample
from stagetransfer.statistics.metrics import Array, Integers, ratio
from stagetransfer.statistics.roc_curve import Curve, Measure, in_blocks, weights_called_positive

# The mean sensitivity at these rates is the competition performance metric (Niemeijer et al. 2011).
CPM = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Detections:
    """The candidates of one system in G cases.

    Each case has its number of lesions (G,). The best candidate of each lesion that has one is a
    hit, with its score and the position of its case (h,). The candidates that hit no lesion are
    false (f,).
    """

    cases: tuple[str, ...]
    lesions: Integers
    hit_scores: Array
    hit_cases: Integers
    false_scores: Array
    false_cases: Integers


def collect_detections(
    cases: Sequence[str],
    lesions: Sequence[str],
    scores: ArrayLike,
    *,
    all_lesions: Sequence[tuple[str, str]],
) -> Detections:
    """Return the detections of one system, from a case, a lesion and a score per candidate.

    A candidate that hits no lesion has the lesion "", and a case without lesions has (case, "") in
    `all_lesions`. ValueError, with the case, if a candidate's case or lesion is not listed or its
    score is not finite, or if a lesion is listed twice or none is listed.
    """
    known: set[tuple[str, str]] = set()
    for case, lesion in all_lesions:
        if (case, lesion) in known:
            raise ValueError(f"lesion {lesion!r} of case {case!r} is listed twice")
        known.add((case, lesion))
    names = sorted({case for case, _ in known})
    number = {case: i for i, case in enumerate(names)}
    of_lesions = [number[case] for case, lesion in known if lesion]
    if not of_lesions:
        raise ValueError("no lesion is listed: there is nothing to find")
    best: dict[tuple[str, str], float] = {}
    false_scores, false_cases = list[float](), list[int]()
    for case, lesion, score in zip(cases, lesions, np.asarray(scores).tolist(), strict=True):
        if case not in number:
            raise ValueError(f"case {case!r} of a candidate is not listed")
        if lesion and (case, lesion) not in known:
            raise ValueError(f"lesion {lesion!r} of a candidate in case {case!r} is not listed")
        if not np.isfinite(score):
            raise ValueError(f"a candidate in case {case!r} has no finite score")
        if lesion:
            best[case, lesion] = max(score, best.get((case, lesion), -np.inf))
        else:
            false_scores.append(score)
            false_cases.append(number[case])
    return Detections(
        tuple(names),
        np.bincount(of_lesions, minlength=len(names)),
        np.array(list(best.values()), np.float64),
        np.array([number[case] for case, _ in best], np.int64),
        np.array(false_scores, np.float64),
        np.array(false_cases, np.int64),
    )


def froc(found: Detections, weights: ArrayLike | None = None) -> Curve:
    """Return R curves: sensitivity by lesion against the mean number of false positives per case.

    The weights (R, G) say how much each case counts in each curve; None: one curve of ones.
    """
    w = np.ones((1, len(found.cases))) if weights is None else np.asarray(weights, np.float64)
    thresholds, (hits, false) = weights_called_positive(
        w, (found.hit_scores, found.hit_cases), (found.false_scores, found.false_cases)
    )
    x = ratio(false, w.sum(1, keepdims=True), empty=np.nan)
    return Curve(thresholds, x, ratio(hits, (w @ found.lesions)[:, None], empty=np.nan))


def resample_cases(found: Detections, *, count: int = 2000) -> Resamples:
    """Draw resamples of the cases, which all compared systems share, as they share the lesions."""
    has = (found.lesions > 0).astype(np.int64)
    return resample(has, None, ("without", "with"), seeds=1, count=count)


def resampled_froc(resamples: Resamples, found: Detections, measure: Measure) -> Array:
    """Return F numbers of the curve on every resample, (1 + B + D, 1, F), as `resampled_roc`."""
    size = len(found.hit_scores) + len(found.false_scores) + 1
    blocks = in_blocks(resamples.weights, size)
    return np.concatenate([measure(froc(found, weights)) for weights in blocks])[:, None]
