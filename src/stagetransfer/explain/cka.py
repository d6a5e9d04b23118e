"""Linear CKA: how alike two sets of features of the same images are."""

from __future__ import annotations

from torch import Tensor


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    """Linear centred kernel alignment of features (n, ...) and (n, ...) of the same n images.

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = X X', L = Y Y'

    Kornblith et al. 2019, "Similarity of neural network representations revisited" (ICML), eq. 3
    to 5. In [0, 1]; unchanged by an orthogonal transform, a shift or a common scale of either.
    Features of more than two dimensions are flattened, as there.

    `unbiased` takes HSIC_1 of Song et al. 2012 (as Nguyen et al. 2021, eq. 3): in [-1, 1], around
    0 for unrelated features. Without it, fewer images than features give a value near 1 whatever
    the features are: use it there.

    Computed in float64 on x's device. NaN if one of the two is the same for all images. Raises
    ValueError if the numbers of images differ, or are less than 2 (unbiased: 4).
    """
    least = 4 if unbiased else 2
    if min(x.dim(), y.dim()) < 2 or len(x) != len(y) or len(x) < least:
        raise ValueError(
            f"needs (n, ...) twice, n >= {least}, not {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if (x == x[:1]).all() or (y == y[:1]).all():  # centring would leave rounding to compare
        return float("nan")
    x, y = _centred(x), _centred(y.to(x.device))
    n, p, q = len(x), x.shape[1], y.shape[1]
    if unbiased:
        gram_x, gram_y = _u_centred(x @ x.T), _u_centred(y @ y.T)
    elif n * (p + q) < p * p + q * q + p * q:
        gram_x, gram_y = x @ x.T, y @ y.T
    else:  # The same three numbers from the smaller products: |X'Y|^2 = sum of K L.
        return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
    return float((gram_x * gram_y).sum() / (gram_x.norm() * gram_y.norm()))


def _centred(features: Tensor) -> Tensor:
    flat = features.detach().flatten(1).double()
    centred = flat - flat.mean(0)
    # CKA has no scale; without this very large or small features leave the range of float64.
    return centred / centred.abs().max()


def _u_centred(gram: Tensor) -> Tensor:
    """Székely & Rizzo 2014: sums of products of such matrices are HSIC_1, times n (n - 3)."""
    n = len(gram)
    gram = gram.clone().fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    gram = gram - rows - rows[:, None] + rows.sum() / (n - 1)
    return gram.fill_diagonal_(0)
