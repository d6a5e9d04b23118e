"""How similar two images are (the measures of Adebayo et al. 2018), and two sets of features."""

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def rank_correlation(a: Tensor, b: Tensor, *, absolute: bool = True) -> Tensor:
    """Return Spearman's rank correlation over the values of each image (N, ...): (N,) in [-1, 1].

    Equal values share their mean rank, because pools and ReLUs leave many zeros. The result is
    float64, on the CPU; NaN where one of the two images is constant.

    Args:
        absolute: rank the magnitudes, which show where a saliency map is strong. Without it, a map
            and its negative, which look much alike, have correlation -1. Adebayo et al. report
            both. For an image before normalisation, the magnitude is its brightness.
    """
    _check_shapes(a, b)
    return (centred_ranks(a, absolute=absolute) * centred_ranks(b, absolute=absolute)).sum(1)


def centred_ranks(images: Tensor, *, absolute: bool = True) -> Tensor:
    """Return the ranks of the values of each image (N, ...) as (N, P) of mean 0 and length 1.

    The products of two such rows add up to their `rank_correlation`. NaN for a constant image.
    """
    flat = images.detach().flatten(1).cpu().double()
    ranks = torch.from_numpy(rankdata((flat.abs() if absolute else flat).numpy(), axis=1))
    ranks -= ranks.mean(1, keepdim=True)
    return ranks.div_(ranks.norm(dim=1, keepdim=True))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of images (N, C, H, W): (N,) float64, 1 for equal images.

    Wang et al. 2004 with their constants: Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, mean
    over the channels. Saliency maps have no scale, so each image is first mapped to [0, 1] by its
    own minimum and maximum (a constant one to 0). The result therefore depends on the sign of a
    map, but not on brightness and contrast. H and W must be 6 pixels or more.
    """
    _check_shapes(a, b)
    if a.dim() != 4 or min(a.shape[2:]) < 6:
        raise ValueError(
            f"a and b: their shape is {tuple(a.shape)}. It must be (N, C, H, W) with H and W of "
            "6 or more."
        )
    # float32 is 15 times as fast and, for values in [0, 1], exact to about 1e-6.
    result = structural_similarity_index_measure(
        _unit_range(a).float(), _unit_range(b).float(), reduction="none", data_range=1.0
    )
    assert isinstance(result, Tensor)
    return result.double()


def _unit_range(images: Tensor) -> Tensor:
    wide = images.detach().cpu().double()
    low, high = wide.amin((1, 2, 3), keepdim=True), wide.amax((1, 2, 3), keepdim=True)
    return (wide - low) / torch.where(high > low, high - low, 1)


def _check_shapes(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(
            f"a and b: their shapes are {tuple(a.shape)} and {tuple(b.shape)}. "
            "Both must be (N, ...) of one shape."
        )


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two feature sets of the same n images.

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = X X', L = Y Y'

    Kornblith et al. 2019, "Similarity of neural network representations revisited" (ICML), eq. 3
    to 5. The value is in [0, 1]. An orthogonal transform, a shift or a common scale of either
    feature set does not change it. It is NaN if a feature set is the same for all images.

    Args:
        x, y: (n, ...) features; further dimensions are flattened, as in the paper. n is at least 2,
            or 4 if unbiased.
        unbiased: use HSIC_1 of Song et al. 2012 (Nguyen et al. 2021, eq. 3). The value is then in
            [-1, 1] and near 0 for unrelated features. Use it for fewer images than features: the
            biased value is near 1 there, whatever the features are.
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
