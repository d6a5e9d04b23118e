"""FROC curves: lesions found against the mean number of false positives a case.

A candidate hits one lesion or none. A lesion is found at the score of its best candidate; others
that hit it count neither as found nor as false (as in LUNA16, Setio et al. 2017, Med. Image Anal.
42). Missed lesions count, and so do cases without lesions or without candidates: both curves'
denominators come from the list of all cases and lesions. Cases are resampled, all that lies in
one together, and those with lesions apart from those without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagetransfer.statistics.resampling import Resamples, resample
from stagetransfer.statistics.roc_curve import Curve, Measure, called, descending, in_blocks, per

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

# Whose mean sensitivity is the competition performance metric, CPM (Niemeijer et al. 2011).
CPM = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)

LESIONS = ("without", "with")


@dataclass(frozen=True)
class Detections:
    """What one system found in G cases.

    cases: G names, sorted. lesions: (G,), how many each has. hit_scores, hit_cases: (h,), the best
    candidate of each lesion that has one, and its case's number. false_scores, false_cases: (f,),
    the candidates that hit none.
    """

    cases: tuple[str, ...]
    lesions: Integers
    hit_scores: Array
    hit_cases: Integers
    false_scores: Array
    false_cases: Integers


def detections(
    cases: Sequence[str],
    lesions: Sequence[str],
    scores: ArrayLike,
    *,
    all_lesions: Sequence[tuple[str, str]],
) -> Detections:
    """Sorts the candidates of one system: a case, a lesion of it ("": none) and a score each.

    all_lesions: (case, lesion) of every lesion there is, and (case, "") of each case without.
    Raises ValueError, which names the case, if a candidate lies in none of these or a score is not
    finite, if a lesion is listed twice, or if there is no lesion at all.
    """
    s = np.asarray(scores, np.float64)
    if not len(cases) == len(lesions) == len(s):
        raise ValueError(f"{len(cases)} cases, {len(lesions)} lesions, {len(s)} scores")
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
    false: list[tuple[float, int]] = []
    for case, lesion, score in zip(cases, lesions, s.tolist(), strict=True):
        if case not in number:
            raise ValueError(f"case {case!r} of a candidate is not listed")
        if lesion and (case, lesion) not in known:
            raise ValueError(f"lesion {lesion!r} of a candidate in case {case!r} is not listed")
        if not np.isfinite(score):
            raise ValueError(f"a candidate in case {case!r} has no finite score")
        if lesion:
            best[case, lesion] = max(score, best.get((case, lesion), -np.inf))
        else:
            false.append((score, number[case]))
    return Detections(
        tuple(names),
        np.bincount(of_lesions, minlength=len(names)),
        np.array(list(best.values()), np.float64),
        np.array([number[case] for case, _ in best], np.int64),
        np.array([score for score, _ in false], np.float64),
        np.array([case for _, case in false], np.int64),
    )


def froc(found: Detections, weights: ArrayLike | None = None) -> Curve:
    """The curve: sensitivity by lesion, `false_positives` the mean number over all cases.

    weights: (R, G), how much each case counts in each of R curves; None: one curve, all ones.
    """
    w = np.ones((1, len(found.cases))) if weights is None else np.asarray(weights, np.float64)
    thresholds = descending(np.concatenate([found.hit_scores, found.false_scores]))
    hits = called(found.hit_scores, w[:, found.hit_cases], thresholds)
    false = called(found.false_scores, w[:, found.false_cases], thresholds)
    return Curve(thresholds, per(false, w.sum(1)), per(hits, w @ found.lesions))


def case_resamples(found: Detections, *, count: int = 2000, random_state: int = 0) -> Resamples:
    """Draws cases; the systems that are compared share the result, and must the lesions."""
    has = (found.lesions > 0).astype(np.int64)
    return resample(has, None, LESIONS, seeds=1, count=count, random_state=random_state)


def resampled_froc(resamples: Resamples, found: Detections, measure: Measure) -> Array:
    """(1 + B + D, 1, F): F numbers of the curve on each row of the weights, as `resampled_roc`."""
    size = len(found.hit_scores) + len(found.false_scores) + 1
    blocks = [measure(froc(found, w)) for w in in_blocks(resamples.weights, size)]
    return np.concatenate(blocks)[:, None]
