"""Convolution with fewer multiplications on the CPU: Winograd's method as matrix products.

An output tile of m x m pixels of an r x r filter takes n^2 multiplications, n = m + r - 1, instead
of m^2 r^2 (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308):

    Y = A^T [(G g G^T) * (B^T d B)] A

where g is the filter and d the n x n input pixels below the tile. A, B and G evaluate polynomials
at n - 1 points and at infinity (Toom-Cook). Summed over channels, the product in brackets is n^2
matrix products of (tiles, channels) by (channels, filters).

Larger tiles save more multiplications and lose more precision. The points were chosen for the least
error in float32 (compare Barabasz et al. 2020, ACM TOMS 46(4)). With tiles of 7 x 7 pixels, the
error is about 2e-5 of the result for 3 x 3 filters and 5e-5 for 5 x 5 filters, and three times that
in the gradient of the input. TF32, PyTorch's default for convolutions on a GPU, has about 3e-4.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_POINTS = (0.0, 1.0, -1.0, 2.0, -0.5, -2.0, 0.5)
_MORE_POINTS = {
    8: (0.0, 1.0, -1.0, 0.7, -0.7, 2.5, -2.5, 0.28),
    10: (0.0, 1.0, -1.0, 0.36, -0.36, 0.72, -0.72, 1.7, -1.7, 4.3),
}
_DTYPE = torch.float32
_TILE_SIDES = (2, 3, 4, 5, 7)  # m
_KERNEL_SIDES = (3, 5)  # r
_CHUNK = 24 * 2**20  # floats of each intermediate result at once: 96 MB
# A multiplication in a transform takes as long as this many in a product, because transforms wait
# for memory: 13 on a processor with AVX-512, fewer with AVX2 alone.
_SLOWER_TRANSFORMS = 10
# So many times cheaper it must be under bfloat16, which speeds up direct convolutions. With 1.5,
# residual networks were slower than with PyTorch's own (benchmarks/RESULTS.md).
_CHEAPER_UNDER_BFLOAT16 = 2.5
_USUAL_BATCH = 32  # images that share the transforms of the filters


class WinogradConv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, computed by Winograd's method where that probably takes less time.

    It may be used on the CPU, for channels-last input, one group, kernels of 3 x 3 or 5 x 5 and
    stride 1. In all other cases PyTorch's own convolution is used. The results agree to about 5e-5
    of their size. What is used depends on the layer and the size of an image, not on the number of
    images or the machine. Set `winograd = False` to turn the method off. There is no second
    derivative.

    Under autocast to bfloat16 it is computed in float32 and rounded at the end, and is used only
    where it still pays although direct convolutions are faster in bfloat16.

        conv2 = WinogradConv2d(96, 256, 5, padding=2)
    """

    winograd = True

    def forward(self, input: Tensor) -> Tensor:
        plan = self._plan(input)
        if plan is None:
            return super().forward(input)
        keep = torch.is_grad_enabled() and self.weight.requires_grad
        if not torch.is_autocast_enabled("cpu"):
            return cast(Tensor, _Winograd.apply(input, self.weight, self.bias, plan, keep))
        with torch.autocast("cpu", enabled=False):
            y = _Winograd.apply(input.float(), self.weight, self.bias, plan, keep)
        return cast(Tensor, y.to(torch.get_autocast_dtype("cpu")))

    def _plan(self, x: Tensor) -> "_Plan | None":
        half = torch.is_autocast_enabled("cpu")
        if not (
            self.winograd
            and x.device.type == "cpu"
            and self.weight.dtype == _DTYPE
            and (x.dtype == _DTYPE or (half and x.dtype == torch.get_autocast_dtype("cpu")))
            and not torch.compiler.is_compiling()
            and x.dim() == 4
            and len(x) > 0
            and x.is_contiguous(memory_format=torch.channels_last)
            and self.kernel_size in [(r, r) for r in _KERNEL_SIDES]
            and self.stride == self.dilation == (1, 1)
            and self.groups == 1
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
        ):
            return None
        (r, _), (above, left) = self.kernel_size, cast(tuple[int, int], self.padding)
        height, width = x.shape[2] + 2 * above - r + 1, x.shape[3] + 2 * left - r + 1
        if min(height, width) < 1:
            return None
        size = self.in_channels, self.out_channels
        plans = [_Plan(r, m, height, width, above, left) for m in _TILE_SIDES]
        best = min(plans, key=lambda plan: plan.products(*size) + plan.transforms(*size))
        return best if best.pays(*size, _CHEAPER_UNDER_BFLOAT16 if half else 1.0) else None


@dataclass(frozen=True)
class _Plan:
    """The tiling of a convolution: `down` x `across` tiles of m x m pixels cover height x width.

    The output is height x width; `above` rows and `left` columns of zeros pad the input.
    """

    r: int
    m: int
    height: int
    width: int
    above: int
    left: int

    @property
    def n(self) -> int:
        return self.m + self.r - 1

    @property
    def down(self) -> int:
        return -(-self.height // self.m)

    @property
    def across(self) -> int:
        return -(-self.width // self.m)

    def products(self, channels: int, filters: int) -> int:
        """Return the multiplications for one image in the matrix products."""
        return self.down * self.across * self.n**2 * channels * filters

    def transforms(self, channels: int, filters: int) -> int:
        """Return the multiplications for one image in the transforms of input and output."""
        n, m = self.n, self.m
        return self.down * self.across * (2 * n**3 * channels + (n * n * m + n * m * m) * filters)

    def pays(self, channels: int, filters: int, times_cheaper: float) -> bool:
        """Whether it probably takes less time than a direct convolution.

        It does not depend on the batch or the machine, so that an image has one result.
        """
        n, r = self.n, self.r
        filter_transforms = (n * r * r + n * n * r) * channels * filters / _USUAL_BATCH
        slow = self.transforms(channels, filters) + filter_transforms
        direct = self.height * self.width * r**2 * channels * filters
        return self.products(channels, filters) + _SLOWER_TRANSFORMS * slow < direct / times_cheaper

    def transform_filters(self, weight: Tensor) -> Tensor:
        """Return (n^2, channels, filters) for a weight (filters, channels, r, r)."""
        _, _, g = _transforms(self.m, self.r, weight.dtype)
        k, c, r, _ = weight.shape
        down = g @ weight.permute(2, 3, 1, 0).reshape(r, -1)
        return (g @ down.view(self.n, r, -1)).view(-1, c, k)

    def transform_filters_adjoint(self, grad: Tensor) -> Tensor:
        """Return the adjoint: (filters, channels, r, r) for (n^2, channels, filters)."""
        _, _, g = _transforms(self.m, self.r, grad.dtype)
        (_, c, k), n, r = grad.shape, self.n, self.r
        across = torch.bmm(g.T.expand(n, -1, -1), grad.view(n, n, -1))
        return (g.T @ across.view(n, -1)).view(r, r, c, k).permute(3, 2, 0, 1)

    def chunks(self, images: int, channels: int, filters: int) -> Iterator[slice]:
        """Yield slices of the batch that bound the memory, except of tiles that are kept."""
        per_image = self.n**2 * self.down * self.across * max(channels, filters)
        number = -(-images * per_image // _CHUNK)
        step = -(-images // number)
        yield from (slice(at, min(at + step, images)) for at in range(0, images, step))

    def pad(
        self, x: Tensor, workspace: "_Workspace", overlap: int = 0, above: int = 0, left: int = 0
    ) -> Tensor:
        """Pad (images, channels, H, W) with zeros to where the last tile ends.

        Neighbouring tiles share `overlap` pixels: r - 1 in the input, else 0. `above` rows and
        `left` columns precede the image. The result is (images, rows, columns, channels).
        """
        b, c, height, width = x.shape
        rows, columns = self.m * self.down + overlap, self.m * self.across + overlap
        whole = workspace.take("whole", (b, rows, columns, c))
        below, right = above + height, left + width
        whole[:, :above] = whole[:, below:] = 0
        whole[:, above:below, :left] = whole[:, above:below, right:] = 0
        whole[:, above:below, left:right] = x.permute(0, 2, 3, 1)
        return whole

    def split(self, padded: Tensor, matrix: Tensor, workspace: "_Workspace", name: str) -> Tensor:
        """Split images into overlapping squares and multiply both sides of each by a matrix.

        The images are (images, rows, columns, channels), the matrix (n, q). The squares have q x q
        pixels and start m pixels apart. The result is (n^2, tiles, channels).
        """
        (n, q), m = matrix.shape, self.m
        b, _, columns, c = padded.shape
        lines = workspace.take("lines", (self.down, b, n, columns * c))
        for i in range(self.down):
            rows = padded[:, m * i : m * i + q].flatten(2)
            torch.bmm(matrix.expand(b, -1, -1), rows, out=lines[i])
        flat = lines.view(-1, columns, c)
        tiles = workspace.take(name, (self.across, len(flat), n, c))
        for j in range(self.across):
            pixels = flat[:, m * j : m * j + q]
            torch.bmm(matrix.expand(len(flat), -1, -1), pixels, out=tiles[j])
        return tiles.view(-1, n * n, c).transpose(0, 1)

    def join(
        self, tiles: Tensor, matrix: Tensor, images: int, workspace: "_Workspace", name: str
    ) -> Tensor:
        """Return the adjoint of `split`: (images, rows, columns, channels).

        The buffer of this name is overwritten.
        """
        (n, q), m, c = matrix.shape, self.m, tiles.shape[2]
        across = workspace.product(name, matrix.T, tiles.view(n, n, -1))
        squares = across.view(n, q, self.across, -1, c).permute(2, 3, 0, 1, 4)
        lines = workspace.take("lines", (squares.shape[1], n, m * self.across + q - m, c))
        _add_overlapping(squares, lines, 2, m)
        down = workspace.product(name, matrix.T, lines.flatten(2))
        squares = down.view(self.down, images, q, -1, c)
        whole = workspace.take("whole", (images, m * self.down + q - m, lines.shape[2], c))
        _add_overlapping(squares, whole, 1, m)
        return whole


def _add_overlapping(pieces: Tensor, out: Tensor, dim: int, step: int) -> None:
    """Write into `out` the sum of pieces that start `step` apart along a dimension."""
    for i, piece in enumerate(pieces):
        size = piece.shape[dim]
        common = size - step if i else 0
        out.narrow(dim, i * step, common).add_(piece.narrow(dim, 0, common))
        rest = size - common
        out.narrow(dim, i * step + common, rest).copy_(piece.narrow(dim, common, rest))


class _Winograd(torch.autograd.Function):
    """The convolution and its gradients.

    For the backward pass it keeps the transformed filters and, with `keep`, the input's tiles,
    which take two to four times the memory of the input. It does not keep the input itself.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, keep: bool
    ) -> Tensor:
        a, b, _ = _transforms(plan.m, plan.r, x.dtype)
        filters, workspace, kept = plan.transform_filters(weight), _Workspace(x), []
        y = x.new_empty(len(x), plan.height, plan.width, len(weight))
        for chunk in plan.chunks(len(x), x.shape[1], len(weight)):
            name = f"tiles from {chunk.start}" if keep else "tiles"
            padded = plan.pad(x[chunk], workspace, plan.r - 1, plan.above, plan.left)
            tiles = plan.split(padded, b, workspace, name)
            if keep:
                kept.append(tiles)
            product = workspace.product("product", tiles, filters)
            unused = "squares" if keep else name
            pixels = plan.join(product, a, len(x[chunk]), workspace, unused)
            inner = pixels[:, : plan.height, : plan.width]
            torch.add(inner, 0 if bias is None else bias, out=y[chunk])
        ctx.plan, ctx.shape = plan, x.shape
        ctx.save_for_backward(filters, *kept)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # With PyTorch's once_differentiable, a constant outer gradient silently gives zero.
        if torch.is_grad_enabled():
            raise RuntimeError("WinogradConv2d has no second derivative. Drop create_graph=True.")
        filters, *kept = ctx.saved_tensors
        plan: _Plan = ctx.plan
        images, channels, height, width = ctx.shape
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        a, b, _ = _transforms(plan.m, plan.r, grad.dtype)
        workspace = _Workspace(grad)
        grad_x = grad.new_empty(images, height, width, channels) if needs_x else None
        grad_filters = torch.empty_like(filters)
        below, right = plan.above + height, plan.left + width
        for number, chunk in enumerate(plan.chunks(images, channels, filters.shape[2])):
            outer = plan.split(plan.pad(grad[chunk], workspace), a, workspace, "outer")
            if needs_weight:
                tiles = kept[number].transpose(1, 2)
                grad_filters.baddbmm_(tiles, outer, beta=min(chunk.start, 1))
            if grad_x is not None:
                tiles = workspace.product("tiles", outer, filters.transpose(1, 2))
                pixels = plan.join(tiles, b, chunk.stop - chunk.start, workspace, "outer")
                grad_x[chunk] = pixels[:, plan.above : below, plan.left : right]
        grad_weight = plan.transform_filters_adjoint(grad_filters) if needs_weight else None
        grad_x = None if grad_x is None else grad_x.permute(0, 3, 1, 2)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if needs_bias else None, None, None


class _Workspace:
    """Memory that all chunks share, because the first access to new memory is slow."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of this shape with arbitrary content."""
        size = math.prod(shape)
        if name not in self.buffers or len(self.buffers[name]) < size:
            self.buffers[name] = self.like.new_empty(size)
        return self.buffers[name][:size].view(shape)

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of a matrix, or a batch of them, and a batch of matrices."""
        out = self.take(name, (len(right), left.shape[-2], right.shape[2]))
        return torch.bmm(left.expand(len(right), -1, -1), right, out=out)


@functools.cache
def _transforms(m: int, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    a, b, g = (torch.from_numpy(matrix) for matrix in toom_cook(m, r))
    return a.to(dtype), b.to(dtype), g.to(dtype)


def toom_cook(m: int, r: int) -> tuple[NDArray[np.float64], ...]:
    """Return A (n, m), B (n, n) and G (n, r) of y = A^T [(G g) * (B d)], n = m + r - 1.

    y_i = sum_j g_j d_{i+j} are m outputs of a one-dimensional correlation with r weights.
    """
    n = m + r - 1
    points = np.array(_MORE_POINTS.get(n - 1, _POINTS)[: n - 1])
    others = [np.delete(points, i) for i in range(n - 1)]
    infinite = np.eye(1, n, n - 1)
    a = np.vstack([np.vander(points, m, increasing=True), infinite[:, n - m :]])
    g = np.vstack([np.vander(points, r, increasing=True), infinite[:, n - r :]])
    g[:-1] /= [[np.prod(p - rest)] for p, rest in zip(points, others, strict=True)]
    b = np.zeros((n, n))
    for i, roots in enumerate([*others, points]):
        b[i, : len(roots) + 1] = np.poly(roots)[::-1]
    return a, b, g
