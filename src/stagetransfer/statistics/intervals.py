"""95 % intervals and p-values of metrics, of their differences and of their slopes, by bootstrap.

`resampling` draws seeds and groups (patients), and the metric is computed again for each draw. The
percentiles of these values alone would mislead in two ways; their width is therefore corrected.

Variance. Seeds and groups are crossed: the run of every seed predicts every group. Let V_s and V_g
be the variances from drawing seeds alone and groups alone, and V_e that of what remains when both
are drawn (their interaction). The draws have the variance V_s + V_g + V_e. But V_s and V_g each
contain the interaction already, so it counts three times (Owen 2007, Ann. Appl. Stat. 1). The right
variance is V = V_s + V_g - V_e (Cameron, Gelbach, Miller 2011, J. Bus. Econ. Stat. 29), which is
not allowed to be smaller than V_s or V_g, because it contains both. If seeds and source seeds are
crossed, V_s is found from their two variances and their interaction by the same rule.

Few seeds, few groups. A variance from three seeds is itself uncertain, which Student's t takes into
account. Its degrees of freedom follow Satterthwaite:
V ** 2 / (V_s ** 2 / (S - 1) + sum(V_h ** 2 / (n_h - 1))). V_h comes from leaving out each of the
n_h groups of stratum h in turn; the V_h are scaled to sum up to V_g.

The draws at the quantiles q and 1 - q are moved apart around their middle, to the distance
2 t(q) sqrt(V). An interval thus has the width of Student's t and the asymmetry of the draws. It
ends at the percentiles 2.5 and 97.5 of the result: the k-th smallest and largest of B draws,
k = 0.025 (B + 1). A p-value is twice the smaller share on either side of zero, which is
(count + 1) / (B + 1), so p <= 0.05 exactly if the interval excludes zero.

Without spread. If a class has a single group, nobody knows how its groups differ, and if no draw
differs from another, the data show no spread at all. The interval and the p-value of a figure that
depends on it are then not estimable (NaN, with the reason), rather than of width 0.

Assumptions: seeds are exchangeable, groups are exchangeable within a stratum, and each class has at
least ten groups (`few_groups`). tests/statistics/test_coverage.py simulates such studies and counts
how often the interval contains the true value. With one seed there is nothing to resample among
seeds: the interval then describes the run of that seed alone, and `seeds_resampled` is False.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stagetransfer.statistics.bootstrap_resamples import Resamples
from stagetransfer.statistics.metrics import Array, checked_arrays, image_losses, ratio

Statistic = Callable[[slice, Array], Array]

LEVEL = 0.95
ROUNDING = 1e-12  # differences below count as 0
NO_SPREAD = "the test images show no spread"


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; all are NaN if the metric is not defined.

    Where only the ends and the p-value are NaN, `why` says why they are not estimable.
    The p-value is two-sided, for the hypothesis that the true value is 0; at least 2 / (B + 1).
    With one run `seeds_resampled` is False: the interval then ignores how seeds differ. `seeds` is
    the number of seeds, or of source seeds if these vary and are fewer. `variances` are V_s, V_g
    and V of this module's docstring.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int
    seeds_resampled: bool
    why: str = ""
    variances: tuple[float, float, float] = (np.nan, np.nan, np.nan)

    @classmethod
    def undefined(cls) -> Interval:
        """Return the interval in place of a comparison that is not made."""
        return cls(np.nan, np.nan, np.nan, np.nan, 0, False)

    def clipped(self, highest: float = 1.0, lowest: float = 0.0) -> Interval:
        """Return the same interval with its ends clipped to [`lowest`, `highest`]."""
        low, high = np.clip([self.low, self.high], lowest, highest).tolist()
        return replace(self, low=low, high=high)

    def columns(self, name: str) -> dict[str, float]:
        """Return the estimate and the ends as columns of a table: `name`, and with _low, _high."""
        return {name: self.estimate, f"{name}_low": self.low, f"{name}_high": self.high}


def resampled_metrics(
    resamples: Resamples, probabilities: ArrayLike, *, areas: bool = True
) -> dict[str, Array]:
    """Return each metric of K runs on every row of the resamples' weights, (1 + B + D, K).

    The probabilities are (K, n, C). The metrics are `accuracy`, `precision`, `recall`, `f1`,
    `cross_entropy` and `auroc` as in `classification_metrics` (NaN in place of None), and
    `precision:NAME`, `recall:NAME`, `f1:NAME` and `auroc:NAME` of each class, which are NaN for a
    class without images. Without `areas`, those of AUROC are left out, which take most of the time.
    """
    y, p = checked_arrays(resamples.labels, probabilities, len(resamples.classes))
    if p.ndim != 3:
        raise ValueError(f"probabilities must be (K, n, C), not {p.shape}")
    member = np.equal.outer(np.arange(len(resamples.strata)), resamples.groups).astype(np.float64)

    def total(of_images: Array) -> Array:
        """Return weighted sums over images (n, ...) for each row, by way of sums over groups."""
        return np.tensordot(resamples.weights, np.tensordot(member, of_images, 1), 1)

    one_hot = np.eye(len(resamples.classes))
    truth, predicted = one_hot[y][:, None], one_hot[p.argmax(2)].transpose(1, 0, 2)
    hits, support, chosen = total(truth * predicted), total(truth), total(predicted)
    by_class = {
        "precision": ratio(hits, chosen, empty=0),
        "recall": ratio(hits, support, empty=np.nan),
        "f1": ratio(2 * hits, support + chosen, empty=0),
        **({"auroc": _auroc(resamples, p)} if areas else {}),
    }
    for values in by_class.values():
        values[np.broadcast_to(support == 0, values.shape)] = np.nan
    size = np.broadcast_to(total(np.ones((len(y), 1))), hits.shape[:2])
    return {
        "accuracy": ratio(hits.sum(2), size, empty=np.nan),
        "cross_entropy": ratio(total(image_losses(y, p).T), size, empty=np.nan),
        **{name: _mean_of_classes(values) for name, values in by_class.items()},
        **{
            f"{name}:{of}": values[:, :, i]
            for name, values in by_class.items()
            for i, of in enumerate(resamples.classes)
        },
    }


def interval(resamples: Resamples, values: Array) -> Interval:
    """Return the interval of the mean over S seeds of a metric on every resample (1 + B + D, S)."""
    if values.shape[1:] != resamples.seeds.shape[1:]:
        raise ValueError(f"values must have {resamples.seeds.shape[1]} runs, not {values.shape}")
    return calibrated_interval(
        resamples,
        lambda rows, seeds: ratio((values[rows] * seeds).sum(1), seeds.sum(1), empty=np.nan),
    )


def difference(resamples: Resamples, a: Array, b: Array) -> Interval:
    """Return the interval of a - b, (1 + B + D, S) each, with the same seeds in the same order."""
    return interval(resamples, a - b)


def calibrated_interval(resamples: Resamples, statistic: Statistic) -> Interval:
    """Return the interval of any statistic, by the method in this module's docstring.

    `statistic` is a function of (rows, seeds) that returns its values for these rows of the
    resamples' weights, with each seed counted as `seeds`, (m, S) or (1, S), says; NaN if not
    defined. Draws that are not defined are left out.
    """
    num_seeds, seeds = resamples.levels, resamples.seeds
    full, drawn, once = slice(0, 1), resamples.drawn, np.ones((1, seeds.shape[1]))
    estimate = float(statistic(full, once)[0])
    not_estimable = Interval(estimate, np.nan, np.nan, np.nan, num_seeds, num_seeds > 1)
    if not np.isfinite(estimate):
        return not_estimable
    without = statistic(resamples.without_one_alone, once)
    if not np.allclose(without, estimate, rtol=0, atol=ROUNDING):
        of = ", ".join(resamples.alone)
        return replace(not_estimable, why=f"only one group (patient) in {of}")
    both = statistic(drawn, seeds) - estimate
    by_groups = statistic(drawn, once) - estimate
    by_seeds = statistic(full, seeds) - estimate
    by_factor = [statistic(full, factor) - estimate for factor in resamples.factors]
    if not (defined := np.isfinite([both, *by_factor]).all(0)).any():
        return replace(not_estimable, why="undefined on all resamples")
    both, by_groups, by_seeds = both[defined], by_groups[defined], by_seeds[defined]
    by_factor = [values[defined] for values in by_factor]
    v_seeds = _crossed_variance([of.var() for of in by_factor], by_seeds - sum(by_factor))
    v_groups = by_groups.var()
    variance = _crossed_variance([v_seeds, v_groups], both - by_seeds - by_groups)
    if variance < ROUNDING**2:
        return replace(not_estimable, why=NO_SPREAD)
    uncertainty = v_seeds**2 / max(num_seeds - 1, 1)
    parts = [(n, (n - 1) * statistic(rows, once).var()) for n, rows in resamples.left_out]
    if (whole := sum(v for _, v in parts)) > 0:
        uncertainty += v_groups**2 * (sum(v**2 / (n - 1) for n, v in parts) / whole**2)
    freedom = variance**2 / uncertainty if uncertainty > 0 else np.inf
    draws, count = np.sort(both), len(both)
    middle = (draws + draws[::-1]) / 2
    quantile = (np.arange(count) + 0.5) / count
    draws = np.sort(estimate + middle + stats.t.ppf(quantile, freedom) * np.sqrt(variance))
    k = max(int((1 - LEVEL) / 2 * (count + 1)), 1)
    low, high = draws[k - 1], draws[-k]
    side = int(min((draws <= 0).sum(), (draws >= 0).sum()))
    p_value = min(1.0, 2 * (side + 1) / (count + 1))
    variances = (float(v_seeds), float(v_groups), float(variance))
    ends = (float(low), float(high), p_value)
    return Interval(estimate, *ends, num_seeds, num_seeds > 1, variances=variances)


def holm(p_values: Sequence[float], size: int) -> list[float]:
    """Return p-values with Holm's correction (1979, Scand. J. Stat. 6); NaN stays NaN.

    `size` is the number of tests of the question that was asked. It may be greater than the number
    of p-values that are defined: a test that could not be made counts as one with the p-value 1.
    """
    p = np.asarray(p_values, np.float64)
    order = p.argsort(kind="stable")[: np.isfinite(p).sum()]  # NaN is sorted last
    if size < len(order):
        raise ValueError(f"size must be {len(order)} or more, the number of tests, not {size}")
    adjusted = np.full_like(p, np.nan)
    factors = np.arange(size, size - len(order), -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return list(adjusted.tolist())


def _crossed_variance(variances: Sequence[float], interaction: Array) -> float:
    """Return the variance of crossed factors, each of which contains their interaction already."""
    return float(max(sum(variances) - interaction.var(), *variances))


def _mean_of_classes(values: Array) -> Array:
    """Return the means (rows, K) over the classes that have a value on the test set as it is."""
    occurs = np.isfinite(values[0]).any(0)
    if not occurs.any():
        return np.full(values.shape[:2], np.nan)
    return np.asarray(values[..., occurs].mean(2))


def _auroc(resamples: Resamples, probabilities: Array) -> Array:
    """Return one-versus-rest AUROC (rows, K, C): the weighted share of pairs in the right order.

    Pairs are counted once for each two groups; the count is weighted by both groups.
    """
    y, groups = resamples.labels, resamples.groups
    result = np.full((len(resamples.weights), *probabilities.shape[::2]), np.nan)
    for i in range(len(resamples.classes)):
        sides = []
        for images in (np.flatnonzero(y == i), np.flatnonzero(y != i)):
            order = images[groups[images].argsort(kind="stable")]
            names, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
            sides.append((order, starts, resamples.weights[:, names], sizes))
        (positive, rows, a, a_sizes), (negative, columns, b, b_sizes) = sides
        if not len(positive) or not len(negative):
            continue
        pairs = (a @ a_sizes) * (b @ b_sizes)
        for k, scores in enumerate(probabilities[:, :, i]):
            lead = (np.sign(scores[positive][:, None] - scores[negative]) + 1) / 2
            ordered = np.add.reduceat(np.add.reduceat(lead, rows, axis=0), columns, axis=1)
            result[:, k, i] = ratio(((a @ ordered) * b).sum(1), pairs, empty=np.nan)
    return result
