"""Each score equals its definition, computed with full matrices, also where N < D."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.stats import special_ortho_group
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from stagetransfer.statistics import transferability as scores

SHAPES = [(60, 5), (12, 30), (40, 40), (50, 8)]


def data(n, d, classes=3, seed=0, rank=None):
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    f = random.normal(size=(n, d)) + 0.8 * random.normal(size=(classes, d))[y]
    if rank is not None:
        f = f[:, :rank] @ random.normal(size=(rank, d))
    return f, y


CASES = [(*shape, None) for shape in SHAPES] + [(50, 20, 4), (15, 30, 6)]


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_logme_is_the_greatest_evidence(n, d, rank):
    f, y = data(n, d, rank=rank)

    def negative(logs, target):
        """Minus the log density of the target, which is normal with this covariance."""
        a, b = np.exp(logs)
        sign, log_determinant = np.linalg.slogdet(cov := np.eye(n) / b + f @ f.T / a)
        quadratic = target @ np.linalg.solve(cov, target)
        return (n * np.log(2 * np.pi) + log_determinant + quadratic) / 2 if sign > 0 else np.inf

    best = []
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    for c in range(3):
        target = (y == c).astype(float)
        starts = ((0, 0), (3, 3), (0, 3), (5, 1), (1, 20), (3, 24))
        found = [
            minimize(negative, start, (target,), method="Nelder-Mead", options=options)
            for start in starts
        ]
        best.append(-min(one.fun for one in found))
    assert scores.logme(f, y) == pytest.approx(np.mean(best) / n, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (12, 30)])
def test_logme_does_not_change_by_rotation(n, d):
    f, y = data(n, d)
    turned = f @ special_ortho_group.rvs(d, random_state=1)
    assert scores.logme(turned, y) == pytest.approx(scores.logme(f, y), abs=1e-9)
    assert scores.logme(f, y) > scores.logme(np.random.default_rng(5).normal(size=f.shape), y)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_leep_by_loops(n, d, rank):
    random, y = np.random.default_rng(2), np.arange(n) % 3
    p = random.dirichlet(np.ones(rank or d), n)
    if rank is not None:
        p = p @ random.dirichlet(np.ones(d), rank)
    joint = np.zeros((3, d))
    for i in range(n):
        for z in range(d):
            joint[y[i], z] += p[i, z] / n
    total = 0.0
    for i in range(n):
        total += np.log(sum(p[i, z] * joint[y[i], z] / joint[:, z].sum() for z in range(d)))
    assert scores.leep(p, y) == pytest.approx(total / n, abs=1e-12)
    assert scores.leep(np.eye(3)[y], y) == pytest.approx(0)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_nleep_is_leep_of_a_mixture(n, d, rank):
    f, y = data(n, d, rank=rank)
    reduced = PCA(0.8, svd_solver="full").fit_transform(f - f.mean(0))
    mixture = GaussianMixture(
        min(15, n // 4), covariance_type="diag", reg_covar=1e-6 + reduced.var() * 1e-3,
        random_state=0,
    ).fit(reduced)  # fmt: skip
    expected = scores.leep(mixture.predict_proba(reduced), y)
    assert scores.nleep(f, y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
@pytest.mark.parametrize("shrinkage", [0.05, 0.5])
def test_h_score_with_full_matrices(n, d, rank, shrinkage):
    f, y = data(n, d, rank=rank)
    centred = f - f.mean(0)
    cov = centred.T @ centred / n
    of_means = sum((y == c).mean() * np.outer(m, m) for c in range(3)
                   for m in [centred[y == c].mean(0)])  # fmt: skip
    shrunk = (1 - shrinkage) * cov + shrinkage * np.trace(cov) / d * np.eye(d)
    expected = (1 - shrinkage) * np.trace(np.linalg.solve(shrunk, of_means))
    assert scores.h_score(f, y, shrinkage=shrinkage) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_h_score_lies_between_0_and_classes_minus_1(n, d, rank):
    f, y = data(n, d, rank=rank)
    assert 0 <= scores.h_score(f, y) <= scores.h_score(f, y, shrinkage=0.0) <= 2 + 1e-9
    assert scores.h_score(np.eye(3)[y], y, shrinkage=0.0) == pytest.approx(2)
    if n - 1 <= (rank or d):  # what shrinkage is for: any features separate so few images
        assert scores.h_score(f, y, shrinkage=0.0) == pytest.approx(2)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_gbc_by_loops(n, d, rank):
    f, y = data(n, d, rank=rank)
    reduced = PCA(min(64, n, d), svd_solver="full").fit_transform(f)
    floor = 1e-3 * reduced.var(0) + 1e-12
    total = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                a, b = reduced[y == i], reduced[y == j]
                va, vb = np.maximum(a.var(0), floor), np.maximum(b.var(0), floor)
                middle = np.diag((va + vb) / 2)
                apart = a.mean(0) - b.mean(0)
                distance = apart @ np.linalg.solve(middle, apart) / 8
                logs = [np.linalg.slogdet(m)[1] for m in (middle, np.diag(va), np.diag(vb))]
                distance += (logs[0] - (logs[1] + logs[2]) / 2) / 2
                total -= np.exp(-distance)
    assert scores.gbc(f, y) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_transrate_with_determinants(n, d, rank):
    f, y = data(n, d, rank=rank)
    z = f - f.mean(0)
    z = z / np.sqrt((z**2).sum(1).mean())

    def rate(part):
        return np.linalg.slogdet(np.eye(d) + part.T @ part / (len(part) * 1e-3))[1] / 2

    expected = rate(z) - sum((y == c).mean() * rate(z[y == c]) for c in range(3))
    assert scores.transrate(f, y) == pytest.approx(expected, abs=1e-9)
    turned = f @ special_ortho_group.rvs(d, random_state=1)
    assert scores.transrate(3 * turned + 7, y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
def test_parc_by_loops(n, d, rank):
    f, y = data(n, d, rank=rank)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    distances = [1 - np.corrcoef(f[i], f[j])[0, 1] for i, j in pairs]
    hot = np.eye(3)
    apart = [1 - np.corrcoef(hot[y[i]], hot[y[j]])[0, 1] for i, j in pairs]
    expected = 100 * stats.spearmanr(np.round(distances, 12), np.round(apart, 9)).statistic
    assert scores.parc(f, y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "rank"), CASES)
@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_triplet_gradient_is_that_of_autograd_over_all_triplets(n, d, rank, margin):
    f, y = data(n, d, rank=rank)
    f[3] = f[0]  # a distance of zero has no direction
    embeddings = torch.from_numpy(f).requires_grad_()
    unit = torch.nn.functional.normalize(embeddings)
    triplets = np.array([
        (a, p, q) for a in range(n) for p in range(n) for q in range(n)
        if a != p and y[a] == y[p] != y[q]
    ]).T  # fmt: skip
    a, p, q = (unit[torch.from_numpy(of)] for of in triplets)

    def distance(u, v):
        square = (u - v).square().sum(1)
        return torch.where(square > 0, square, 1).sqrt() * (square > 0)

    losses = (distance(a, p) - distance(a, q) + margin).relu()
    (losses.sum() / (losses > 0).sum()).backward()
    found = scores.triplet_gradient(f, y, margin=margin)
    assert found == pytest.approx(embeddings.grad.numpy(), abs=1e-9)
    assert np.abs(found).max() > 1e-4


def test_without_a_triplet_that_loses_there_is_no_gradient():
    assert not scores.triplet_gradient(np.eye(3)[[0, 0, 1, 1]], [0, 0, 1, 1]).any()
    assert not scores.triplet_gradient(np.random.default_rng(0).normal(size=(2, 5)), [0, 1]).any()
    assert np.isnan(scores.feature_utility([0, 0], [0, 0]))
    assert np.isnan(scores.feature_utility([], []))


def test_feature_utility_is_a_ratio_of_mean_norms():
    assert scores.feature_utility([1, 3], [6, 4]) == pytest.approx(2.5, abs=1e-12)


@pytest.mark.parametrize("name", scores.SCORES)
def test_better_separated_features_get_higher_scores(name):
    random = np.random.default_rng(4)
    y = np.arange(120) % 4
    noise, centres = random.normal(size=(120, 16)), random.normal(size=(4, 16))
    found = [scores.SCORES[name](noise + shift * centres[y], y) for shift in (0.0, 0.7, 3.0)]
    assert found == sorted(found)
    assert found[0] < found[2]


@pytest.mark.parametrize("name", scores.SCORES)
def test_degenerate_features(name):
    y = np.array([0, 0, 1, 1, 2])
    for f in (np.zeros((5, 3)), np.ones((5, 3)), np.arange(15.0).reshape(5, 3)):
        assert np.isfinite(scores.SCORES[name](f, y))
    with pytest.raises(ValueError, match="two classes"):
        scores.SCORES[name](np.eye(3), [1, 1, 1])
    with pytest.raises(ValueError, match="finite"):
        scores.SCORES[name]([[np.nan, 1], [0, 1]], [0, 1])
    with pytest.raises(ValueError, match="must be"):
        scores.SCORES[name](np.eye(3), [0, 1])
