"""Scores that estimate from features alone how well a network would be tuned for a target.

Features (N, D) are what a network computes for N labelled images of the target; labels (N,) lie in
0 .. C - 1. A higher score predicts a better result. Scores of one target may be compared with each
other, and never those of different targets. All of them look at features before any tuning, so they
cannot know what tuning changes; see docs/advise.md for how well they do.
"""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from stagetransfer.statistics.metrics import Array, Integers

TINY = 1e-12


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean log evidence per image of a Bayesian linear model (You et al. 2021, ICML).

    For each class, y in {0, 1} is regressed on the features F with prior N(0, 1 / a) and noise
    1 / b. With the singular values s_i of F, z = U' y and r = a / b, the evidence at the best b is

        N / 2 (ln(N / S) - ln(2 pi) - 1) + 1 / 2 sum_i ln(r / (r + s_i ** 2)),
        S = sum_i z_i ** 2 r / (r + s_i ** 2) + |y - U z| ** 2,

    which is maximised over r. Only singular values above 0 count, so it holds for N < D too, where
    the published fixed-point code leaves D - N factors out of the determinant. A rotation of the
    features changes nothing; a shift does, because the model has no intercept.
    """
    f, y = _checked(features, labels)
    u, s, _ = np.linalg.svd(_turned(f), full_matrices=False)
    keep = s > s.max(initial=0) * max(f.shape) * np.finfo(np.float64).eps
    u, squares = u[:, keep], s[keep] ** 2
    evidence = [_best_evidence((y == c).astype(np.float64), u, squares) for c in np.unique(y)]
    return float(np.mean(evidence) / len(y))


def _best_evidence(y: Array, u: Array, squares: Array) -> float:
    n, z = len(y), u.T @ y
    outside = float(y @ y - z @ z)
    if len(z) == n or outside < TINY * n:  # the features can fit any target
        outside = 0.0

    def negative(log_ratio: float) -> float:
        share = 1 / (1 + squares / np.exp(log_ratio))
        residual = max(float(z**2 @ share) + outside, np.finfo(np.float64).tiny)
        fit = n / 2 * (np.log(n / residual) - np.log(2 * np.pi) - 1)
        return -float(fit + np.log(share).sum() / 2)

    middle = np.log(squares.mean()) if len(squares) else 0.0
    grid = np.linspace(middle - 30, middle + 30, 241)
    best = int(np.argmin([negative(at) for at in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(negative, bounds=ends, method="bounded", options={"xatol": 1e-10})
    return -float(min(found.fun, negative(grid[best])))


def leep(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the log expected empirical prediction (Nguyen et al. 2020, ICML), at most 0.

    From the probabilities (N, Z) that the source network gives its own Z classes, P(y | z) is
    counted on the same images, so more source classes give higher values without being better.
    """
    p, y = _checked(source_probabilities, labels)
    joint = np.stack([p[y == c].sum(0) for c in np.unique(y)]) / len(y)
    given = joint / np.maximum(joint.sum(0), TINY)
    of_image = (p * given[np.unique(y, return_inverse=True)[1]]).sum(1)
    return float(np.log(np.maximum(of_image, TINY)).mean())


def nleep(features: ArrayLike, labels: ArrayLike, *, per_class: int = 5, seed: int = 0) -> float:
    """Return LEEP with a Gaussian mixture in place of the source classes (Li et al. 2021, CVPR).

    The features are reduced to 80 % of their variance, and the mixture has `per_class` components
    for each class, but at most one for four images. It needs no source classes, and depends on the
    random start of the mixture.
    """
    f, y = _checked(features, labels)
    f = _turned(f - f.mean(0))
    reduced = PCA(0.8, svd_solver="full").fit_transform(f) if f.any() else f[:, :1]
    components = max(1, min(per_class * len(np.unique(y)), len(y) // 4))
    mixture = GaussianMixture(
        components, covariance_type="diag", reg_covar=1e-6 + reduced.var() * 1e-3, random_state=seed
    )
    return leep(mixture.fit(reduced).predict_proba(reduced), y)


def h_score(features: ArrayLike, labels: ArrayLike, *, shrinkage: float | None = None) -> float:
    """Return the H-score, tr(cov(f)^-1 cov(E[f | y])), in [0, C - 1] (Bao et al. 2019, ICIP).

    The covariance of few images in many dimensions has no inverse, and the score is then C - 1 for
    any features. It is therefore shrunk towards a multiple of the identity (Ibrahim et al. 2022,
    TPAMI): `shrinkage` in [0, 1], by default that of Ledoit and Wolf (2004).
    """
    f, y = _checked(features, labels)
    f = f - f.mean(0)
    if shrinkage is None:
        shrinkage = float(ledoit_wolf_shrinkage(f, assume_centered=True))
    dimensions, f = f.shape[1], _turned(f)
    _, s, directions = np.linalg.svd(f, full_matrices=False)
    keep = s > s.max(initial=0) * max(f.shape) * np.finfo(np.float64).eps
    means = np.stack([np.sqrt((y == c).mean()) * f[y == c].mean(0) for c in np.unique(y)])
    along = means @ directions[keep].T
    spread = s[keep] ** 2 / len(y)
    shrunk = (1 - shrinkage) * spread + shrinkage * spread.sum() / dimensions
    return float((1 - shrinkage) * ((along**2).sum(0) / shrunk).sum())


def gbc(features: ArrayLike, labels: ArrayLike, *, dimensions: int = 64) -> float:
    """Return minus the overlap of the classes, at most 0 (Pandy et al. 2022, CVPR).

    Each class is a Gaussian with a diagonal covariance, after a reduction to `dimensions` principal
    components; the overlap of two classes is their Bhattacharyya coefficient, summed over ordered
    pairs. A variance is at least a thousandth of that of all images, since a class with one image
    has none.
    """
    f, y = _checked(features, labels)
    f = principal_components(f, dimensions)
    floor = 1e-3 * f.var(0) + TINY
    of_class = [(f[y == c].mean(0), np.maximum(f[y == c].var(0), floor)) for c in np.unique(y)]
    overlap = 0.0
    for (m1, v1), (m2, v2) in combinations(of_class, 2):
        middle = (v1 + v2) / 2
        distance = ((m1 - m2) ** 2 / middle).sum() / 8
        distance += (np.log(middle) - (np.log(v1) + np.log(v2)) / 2).sum() / 2
        overlap += 2 * np.exp(-distance)
    return -float(overlap)


def transrate(features: ArrayLike, labels: ArrayLike, *, epsilon: float = 1e-3) -> float:
    """Return the coding rate of the features minus that within classes (Huang et al. 2022, ICML).

    R(Z) = 1 / 2 ln det(I + Z' Z / (N epsilon)) for features centred over all images. Classes count
    by their share of the images. The rate depends on the scale, so the total variance is made 1.
    """
    f, y = _checked(features, labels)
    f = f - f.mean(0)
    f = f / max(float(np.sqrt((f**2).sum(1).mean())), TINY)

    def rate(z: Array) -> float:
        smaller = z @ z.T if len(z) < z.shape[1] else z.T @ z  # both have the same determinant
        inner = np.eye(len(smaller)) + smaller / (len(z) * epsilon)
        return float(np.linalg.slogdet(inner).logabsdet / 2)

    return rate(f) - float(sum((y == c).mean() * rate(f[y == c]) for c in np.unique(y)))


def parc(features: ArrayLike, labels: ArrayLike) -> float:
    """Return 100 times a rank correlation of two distances between images, in [-100, 100].

    Those of the features are 1 minus Pearson's correlation of two images, those of the labels 0 or
    1 (Bolya et al. 2021, NeurIPS). All pairs are compared: 5,000 images are 12 million pairs.
    """
    f, y = _checked(features, labels)
    first, second = np.triu_indices(len(y), 1)
    apart = y[first] != y[second]
    centred = f - f.mean(1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), TINY)
    distances = np.round(1 - (unit @ unit.T)[first, second], 12)
    if apart.all() or not apart.any() or np.ptp(distances) == 0:
        return 0.0
    return 100 * float(stats.spearmanr(distances, apart).statistic)


def triplet_gradient(embeddings: ArrayLike, labels: ArrayLike, *, margin: float = 0.05) -> Array:
    """Return the (N, D) gradient of the triplet loss by the embeddings of a batch.

    The loss is the mean of |a - p| - |a - n| + margin over all triplets of the batch where it is
    positive. a and p are of one class and n of another, and all are divided by their lengths.
    Without such a triplet, the gradient is zero.
    """
    f, y = _checked(embeddings, labels)
    lengths = np.maximum(np.linalg.norm(f, axis=1, keepdims=True), TINY)
    e = f / lengths
    distances = cdist(e, e)
    by_distance, count = np.zeros_like(distances), 0
    for i in range(len(y)):
        (others,) = np.nonzero(y != y[i])
        (same,) = np.nonzero((y == y[i]) & (np.arange(len(y)) != i))
        lossy = distances[i, same][:, None] - distances[i, others] + margin > 0
        by_distance[i, same] = lossy.sum(1)
        by_distance[i, others] = -lossy.sum(0)
        count += int(lossy.sum())
    # The derivative of |e_i - e_j| by e_i is their difference over their distance, or 0.
    inverse = np.where(distances > TINY, 1 / np.maximum(distances, TINY), 0)
    pull = (by_distance + by_distance.T) * inverse / max(count, 1)
    of_unit = pull.sum(1, keepdims=True) * e - pull @ e
    return np.asarray((of_unit - (of_unit * e).sum(1, keepdims=True) * e) / lengths)


def feature_utility(first: ArrayLike, second: ArrayLike) -> float:
    """Return how much more the second layer's weights would change than the first layer's.

    The mean over batches of the second norm, divided by that of the first (Juodelyte et al. 2024,
    arXiv 2412.20172). The norms (B,) are those of the gradients of the triplet loss of the
    embeddings (see `triplet_gradient`) by the weights of the network's first two layers: features
    that need no change in the first layer are of use as they are. It is NaN without a gradient.
    A factor that moves from one layer to the next changes the value and not the network, so only
    networks of one architecture and scheme of initial values can be compared.
    """
    below = float(np.sum(first))  # both have one norm per batch, so the sums do as well
    return float(np.sum(second)) / below if below > 0 else float("nan")


SCORES = {
    "LogME": logme,
    "NLEEP": nleep,
    "H-score": h_score,
    "GBC": gbc,
    "TransRate": transrate,
    "PARC": parc,
}
"""The scores that need features and labels alone."""


def principal_components(f: Array, count: int) -> Array:
    """Return the first `count` principal components of features (N, D), at most N or D."""
    f = f - f.mean(0)
    wide, count = len(f) < f.shape[1], min(count, *f.shape)
    gram = f @ f.T if wide else f.T @ f  # the smaller of the two
    values, vectors = eigh(gram, subset_by_index=(len(gram) - count, len(gram) - 1))
    if not wide:
        return np.asarray(f @ vectors)
    noise = values[-1] * max(f.shape) * np.finfo(np.float64).eps
    return np.asarray(vectors * np.sqrt(np.where(values > noise, values, 0)))


def _turned(f: Array) -> Array:
    """Return features (N, D), if N < D, in N dimensions with the same lengths and angles."""
    if len(f) >= f.shape[1]:
        return f
    return np.asarray(np.linalg.qr(f.T, mode="r"), np.float64).T


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Array, Integers]:
    f, y = np.asarray(features, np.float64), np.asarray(labels, np.int64)
    if f.ndim != 2 or y.shape != f.shape[:1] or not len(y):
        raise ValueError(f"features must be (N, D), labels (N,), N > 0, not {f.shape}, {y.shape}")
    if not np.isfinite(f).all():
        raise ValueError("features must be finite")
    if len(np.unique(y)) < 2:
        raise ValueError("needs images of two classes or more")
    return f, y
