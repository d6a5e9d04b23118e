"""The macro recall of one run with a 95 % interval, to tell whether it lies above chance.

The recall of class k is a ratio of two totals over groups g (patients): h_gk images that are
classified correctly, of n_gk. The macro recall is the mean of r_k = h_k / n_k over the K classes
that occur. By Taylor linearisation (Woodruff 1971, J. Am. Stat. Assoc. 66), a group's influence is

    z_g = sum_k (h_gk - r_k n_gk) / n_k / K,    variance = G / (G - 1) sum_g z_g ** 2.

That variance is 0 for a network with constant output, and far too small for one that is right or
wrong by accident on few images. The standard error is therefore at least that of guessing, where
each of the n_k images is correct with the probability 1 / C. This needs no resampling, so it is
fast enough for each stage that is trained.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stagetransfer.statistics.intervals import LEVEL


def macro_recall_interval(
    labels: ArrayLike, predictions: ArrayLike, groups: ArrayLike | None, num_classes: int
) -> tuple[float, float, float]:
    """Return the macro recall over the classes that occur, and the ends of its 95 % interval.

    Labels and predictions (n,) are positions among C = `num_classes` classes; without groups (n,),
    each image is one. The interval uses Student's t with G - 1 degrees of freedom and is clipped to
    [0, 1]. One group alone cannot show how groups differ, so its interval is [0, 1].
    """
    y, predicted = np.asarray(labels), np.asarray(predictions)
    names = np.arange(len(y)) if groups is None else np.asarray(groups)
    if not len(y) or not y.shape == predicted.shape == names.shape:
        raise ValueError("labels, predictions and groups must be (n,), n > 0")
    present, of_class = np.unique(y, return_inverse=True)
    groups_named, of_group = np.unique(names, return_inverse=True)
    images = np.zeros((len(groups_named), len(present)))
    hits = np.zeros_like(images)
    np.add.at(images, (of_group, of_class), 1)
    np.add.at(hits, (of_group, of_class), predicted == y)
    support = images.sum(0)
    recalls = hits.sum(0) / support
    recall = float(recalls.mean())
    if (count := len(groups_named)) < 2:
        return recall, 0.0, 1.0
    influence = ((hits - recalls * images) / support).sum(1) / len(present)
    chance = 1 / num_classes
    guessing = chance * (1 - chance) * (1 / support).sum() / len(present) ** 2
    variance = max(count / (count - 1) * (influence**2).sum(), guessing)
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt(variance)
    low, high = np.clip([recall - half, recall + half], 0, 1).tolist()
    return recall, low, high
