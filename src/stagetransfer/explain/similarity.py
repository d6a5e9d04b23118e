"""How similar two images are (the measures of Adebayo et al. 2018), and two sets of features."""

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def centred_ranks(images: Tensor) -> Tensor:
    """Return the ranks of the magnitudes in each image (N, ...) as (N, P) of mean 0 and length 1.

    The products of two such rows add up to Spearman's rank correlation of two images. Magnitudes
    show where a saliency map is strong, whatever its sign; of an image before normalisation, they
    are its brightness. Equal values share their mean rank, because pools and ReLUs leave many
    zeros. The result is float64, on the CPU; NaN for a constant image.
    """
    flat = images.detach().flatten(1).cpu().double()
    ranks = torch.from_numpy(rankdata(flat.abs().numpy(), axis=1))
    ranks -= ranks.mean(1, keepdim=True)
    return ranks.div_(ranks.norm(dim=1, keepdim=True))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of images (N, C, H, W): (N,) float64, 1 for equal images.

    Wang et al. 2004 with their constants: Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, mean
    over the channels. Saliency maps have no scale, so each image is first mapped to [0, 1] by its
    own minimum and maximum (a constant one to 0). The result therefore depends on the sign of a
    map, but not on brightness and contrast. H and W must be 6 pixels or more.
    """
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


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Return the linear centred kernel alignment of two feature sets of the same n images.

        CKA = HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)),   K = X X', L = Y Y'

    Kornblith et al. 2019, "Similarity of neural network representations revisited" (ICML), with the
    unbiased HSIC_1 of Song et al. 2012 (Nguyen et al. 2021, eq. 3): for fewer images than features,
    the biased one is near 1, whatever the features are. The value is in [-1, 1] and near 0 for
    unrelated features. An orthogonal transform, a shift or a common scale of either feature set
    does not change it. It is NaN for fewer than 4 images, or equal features of all images.

    Args:
        x, y: (n, ...) features; further dimensions are flattened, as in the paper.
    """
    # Equality is checked before centring, which would leave rounding errors to compare.
    if len(x) < 4 or (x == x[:1]).all() or (y == y[:1]).all():
        return float("nan")
    x, y = _centred(x), _centred(y.to(x.device))
    gram_x, gram_y = _u_centred(x @ x.T), _u_centred(y @ y.T)
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
