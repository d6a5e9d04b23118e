"""Linear CKA: how similar two sets of features of the same images are."""

from __future__ import annotations

from torch import Tensor


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two feature sets of the same n images.

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = X X', L = Y Y'

    Kornblith et al. 2019, "Similarity of neural network representations revisited" (ICML), eq. 3
    to 5. The value is in [0, 1]. An orthogonal transform, a shift or a common scale of either
    feature set does not change it. It is computed in float64 on x's device.

    Args:
        x: (n, ...) features; further dimensions are flattened, as in the paper.
        y: (n, ...) features, of any size.
        unbiased: use HSIC_1 of Song et al. 2012 (Nguyen et al. 2021, eq. 3). The value is then in
            [-1, 1] and near 0 for unrelated features. Use it for fewer images than features: the
            biased value is near 1 there, whatever the features are.

    Returns:
        The alignment; NaN if one of the feature sets is the same for all images.

    Raises:
        ValueError: the numbers of images differ, or are below 2 (unbiased: below 4).
    """
    least = 4 if unbiased else 2
    if min(x.dim(), y.dim()) < 2 or len(x) != len(y) or len(x) < least:
        raise ValueError(
            f"x and y: their shapes are {tuple(x.shape)} and {tuple(y.shape)}. "
            f"Both must be (n, ...) with the same n >= {least}."
        )
    # Checked before centring, which would leave rounding errors to compare.
    if (x == x[:1]).all() or (y == y[:1]).all():
        return float("nan")
    x, y = _centred(x), _centred(y.to(x.device))
    n, p, q = len(x), x.shape[1], y.shape[1]
    if unbiased:
        gram_x, gram_y = _u_centred(x @ x.T), _u_centred(y @ y.T)
    elif n * (p + q) < p * p + q * q + p * q:
        gram_x, gram_y = x @ x.T, y @ y.T
    else:  # the same three numbers from smaller products, because |X'Y|^2 is the sum of K * L
        return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
    return float((gram_x * gram_y).sum() / (gram_x.norm() * gram_y.norm()))


def _centred(features: Tensor) -> Tensor:
    flat = features.detach().flatten(1).double()
    centred = flat - flat.mean(0)
    # CKA has no scale. Without this, very large or very small features overflow or underflow.
    return centred / centred.abs().max()


def _u_centred(gram: Tensor) -> Tensor:
    """Székely & Rizzo 2014: sums of products of such matrices are HSIC_1 times n (n - 3)."""
    n = len(gram)
    gram = gram.clone().fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    gram = gram - rows - rows[:, None] + rows.sum() / (n - 1)
    return gram.fill_diagonal_(0)
