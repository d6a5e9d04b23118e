"""The one bootstrap: 95 % intervals and p-values of figures, their differences, their slopes.

Draws come from `resampling`: each takes seeds and groups anew, and the figure follows. Their
percentiles alone would mislead in two ways, so their width is put right before they are read.

Variance. Seeds and groups are crossed: every seed's run sees every group. With V_s, V_g the
variances that come from drawing seeds alone and groups alone, and V_e that of what remains
when both are drawn (their interaction), the draws have V_s + V_g + V_e, though V_s and V_g hold
the interaction once each already: it counts three times (Owen 2007, Ann. Appl. Stat. 1). Right is
V = V_s + V_g - V_e (Cameron, Gelbach, Miller 2011, J. Bus. Econ. Stat. 29), and no less than
V_s or V_g, each of which it holds.

Few seeds, few groups. A variance from three seeds is itself uncertain, as Student's t knows. Its
degrees of freedom are Satterthwaite's: V ** 2 / (V_s ** 2 / (S - 1) + sum(V_h ** 2 / (n_h - 1))),
with V_h from leaving out each of stratum h's n_h groups in turn (V_h scaled to sum up to V_g).

The draws at quantiles q and 1 - q are moved apart about their middle, to the distance that t
asks: 2 t(q) sqrt(V). So an interval's width is t's, and its asymmetry that of the draws.
An interval ends at the percentiles 2.5 and 97.5 of what results (the k-th smallest and largest of
B draws, k = 0.025 (B + 1)); a p-value is twice the smaller share on either side of zero, (count +
1) / (B + 1), so p <= 0.05 just where the interval leaves zero out.

This holds if seeds are exchangeable, groups are exchangeable within a stratum, and each class has
ten groups or more (`few_groups`); tests/statistics/test_coverage.py simulates such studies and
counts how often the interval holds the truth. With one seed there is nothing to resample of it: the
interval is then about that seed's run alone, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stagetransfer.statistics.metrics import checked, losses
from stagetransfer.statistics.resampling import Resamples

Array = NDArray[np.float64]
Statistic = Callable[[slice, Array], Array]

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; all NaN where the figure is not defined.

    p_value: two-sided, of the hypothesis that the truth is 0; no less than 2 / (B + 1).
    seeds: how many were averaged. seeds_resampled: False with one seed; then the interval knows
    nothing of how seeds differ.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int
    seeds_resampled: bool

    def clipped(self, highest: float = 1.0) -> Interval:
        """Return the same interval with its ends clipped to [0, `highest`]."""
        low, high = (float(np.clip(end, 0, highest)) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def resampled_metrics(resamples: Resamples, probabilities: ArrayLike) -> dict[str, Array]:
    """Each figure of each of K runs on each row of the resamples' weights.

    probabilities: (K, n, C) in [0, 1], the runs' predictions on the test set of the resamples,
    its images in the same order. Returns arrays (1 + B + D, K): `accuracy`, `precision`,
    `recall`, `f1`, `cross_entropy`, `auroc` as in `figures` (NaN where that gives None), and by
    class `precision:NAME`, `recall:NAME`, `f1:NAME`, `auroc:NAME`.
    """
    y, p = checked(resamples.labels, probabilities, len(resamples.classes))
    if p.ndim != 3:
        raise ValueError(f"probabilities must be (K, n, C), not {p.shape}")
    weights, group = resamples.weights, resamples.groups
    member = np.zeros((weights.shape[1], len(y)))
    member[group, np.arange(len(y))] = 1

    def total(of_images: Array) -> Array:
        """Sums (n, ...) over images with each row's weights, by way of sums over groups."""
        return np.tensordot(weights, np.tensordot(member, of_images, 1), 1)

    one_hot = np.eye(len(resamples.classes))
    truth, predicted = one_hot[y][:, None], one_hot[p.argmax(2)].transpose(1, 0, 2)
    hits, support, chosen = total(truth * predicted), total(truth), total(predicted)
    by_class = {
        "precision": _ratio(hits, chosen),
        "recall": _ratio(hits, np.broadcast_to(support, hits.shape)),
        "f1": _ratio(2 * hits, support + chosen),
        "auroc": _auroc(resamples, p),
    }
    size = total(np.ones((len(y), 1)))
    return {
        "accuracy": hits.sum(2) / size,
        "cross_entropy": total(losses(y, p).T) / size,
        **{name: values.mean(2) for name, values in by_class.items()},
        **{
            f"{name}:{of}": values[:, :, i]
            for name, values in by_class.items()
            for i, of in enumerate(resamples.classes)
        },
    }


def interval(resamples: Resamples, values: Array) -> Interval:
    """Of the mean over seeds of a figure (1 + B + D, S): that of the S seeds' runs, in the order
    of the seeds."""
    if values.shape[1:] != resamples.seeds.shape[1:]:
        raise ValueError(f"values must have {resamples.seeds.shape[1]} runs, not {values.shape}")
    return calibrated(resamples, lambda rows, seeds: _mean(values[rows], seeds))


def difference(resamples: Resamples, a: Array, b: Array) -> Interval:
    """Of a - b, the same figure of two conditions, in pairs: on the same images, by the same
    seeds in the same order, with the same resamples."""
    return interval(resamples, a - b)


def calibrated(resamples: Resamples, statistic: Statistic) -> Interval:
    """The interval of any statistic, by the method at the head of this file.

    statistic(rows, seeds) gives its value on these rows of the resamples' weights, with each seed
    counted as the row (m, S) or (1, S) of `seeds` says; NaN where it is not defined. Draws that
    are not defined are left out.
    """
    num_seeds = resamples.seeds.shape[1]
    full, drawn, once = slice(0, 1), resamples.drawn, np.ones((1, num_seeds))
    estimate = float(statistic(full, once)[0])
    both = statistic(drawn, resamples.seeds) - estimate
    by_groups = statistic(drawn, once) - estimate
    by_seeds = statistic(full, resamples.seeds) - estimate
    defined = np.isfinite(both)
    if not defined.any():
        nan = float("nan")
        return Interval(estimate, nan, nan, nan, num_seeds, num_seeds > 1)
    both, by_groups, by_seeds = both[defined], by_groups[defined], by_seeds[defined]
    v_seeds, v_groups = by_seeds.var(), by_groups.var()
    v_both = (both - by_seeds - by_groups).var()
    variance = max(v_seeds + v_groups - v_both, v_seeds, v_groups)
    certainty = v_seeds**2 / max(num_seeds - 1, 1)
    certainty += v_groups**2 * _inverse_freedom(resamples, statistic)
    freedom = variance**2 / certainty if certainty > 0 else np.inf
    draws = np.sort(both)
    count = len(draws)
    middle = (draws + draws[::-1]) / 2
    quantile = (np.arange(count) + 0.5) / count
    draws = np.sort(estimate + middle + stats.t.ppf(quantile, freedom) * np.sqrt(variance))
    k = max(int((1 - LEVEL) / 2 * (count + 1)), 1)
    low, high = draws[k - 1], draws[-k]
    side = int(min((draws <= 0).sum(), (draws >= 0).sum()))
    p_value = min(1.0, 2 * (side + 1) / (count + 1))
    return Interval(estimate, float(low), float(high), p_value, num_seeds, num_seeds > 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979, Scand. J. Stat. 6): adjusted p-values, in the order
    given."""
    p = np.asarray(p_values, np.float64)
    order = p.argsort(kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return [float(value) for value in adjusted]


def _inverse_freedom(resamples: Resamples, statistic: Statistic) -> float:
    """sum(V_h ** 2 / (n_h - 1)) / sum(V_h) ** 2 of the statistic's variance by stratum."""
    once = np.ones((1, resamples.seeds.shape[1]))
    parts = [(n, (n - 1) * statistic(rows, once).var()) for n, rows in resamples.left_out]
    whole = sum(v for _, v in parts)
    return float(sum(v**2 / (n - 1) for n, v in parts) / whole**2) if whole > 0 else 0.0


def _mean(values: Array, seeds: Array) -> Array:
    return np.asarray((values * seeds).sum(1) / seeds.sum(1))


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _auroc(resamples: Resamples, probabilities: Array) -> Array:
    """One-versus-rest (rows, K, C): the weight of pairs in order over that of all pairs.

    Pairs are counted once, between each two groups, and weighted by both.
    """
    y = resamples.labels
    result = np.empty((len(resamples.weights), *probabilities.shape[::2]))
    for i in range(len(resamples.classes)):
        sides = []
        for (images,) in (np.nonzero(y == i), np.nonzero(y != i)):
            order = images[resamples.groups[images].argsort(kind="stable")]
            names, starts, sizes = np.unique(
                resamples.groups[order], return_index=True, return_counts=True
            )
            sides.append((order, starts, resamples.weights[:, names], sizes))
        (positive, rows, a, a_sizes), (negative, columns, b, b_sizes) = sides
        pairs = (a @ a_sizes) * (b @ b_sizes)
        for k, scores in enumerate(probabilities[:, :, i]):
            if not len(positive) or not len(negative):
                result[:, k, i] = np.nan
                continue
            lead = scores[positive][:, None] - scores[negative]
            ordered = np.add.reduceat(
                np.add.reduceat((np.sign(lead) + 1) / 2, rows, axis=0), columns, axis=1
            )
            result[:, k, i] = ((a @ ordered) * b).sum(1) / pairs
    return result
