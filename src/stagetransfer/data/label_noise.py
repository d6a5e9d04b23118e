"""Wrong training labels, on purpose: the share `label_noise` of each class gets another class.

This is symmetric noise: the wrong class is drawn evenly among the others. All depends on the seed
alone: it is the same at any ratio, and what is wrong at a low rate is as wrong at a higher one.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data.holdout import Rows, round_half_up
from stagetransfer.layouts.samples import Samples
from stagetransfer.seeding import derive


def with_wrong_labels(samples: Samples, train: Rows, rate: float, seed: int) -> Samples:
    """Return the samples with wrong labels in the share `rate` of each class of the `train` rows.

    Of a class with n images in `train`, floor(rate n + 1/2) get one. All other rows keep theirs.
    """
    labels, count = samples.labels.copy(), len(samples.classes)
    random = np.random.default_rng(derive(seed, "label noise"))
    for label in range(count):
        own = random.permutation(train[samples.labels[train] == label])
        other: NDArray[np.int64] = random.integers(1, count, len(own))
        wrong = own[: round_half_up(rate * len(own))]
        labels[wrong] = (label + other[: len(wrong)]) % count
    return replace(samples, labels=labels)
