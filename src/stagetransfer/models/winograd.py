"""Convolution with fewer multiplications on the CPU, in matrix products.

An output tile of m x m pixels of an r x r filter takes n = m + r - 1 squared multiplications in
place of m * m * r * r (Winograd 1980; Lavin, Gray 2016, arXiv 1509.09308):

    Y = A^T [(G g G^T) * (B^T d B)] A

for a filter g and the n x n pixels d under the tile. A, B and G evaluate polynomials at n - 1
points and at infinity (Toom, Cook). Summed over channels the product in brackets is n * n matrix
products of (tiles, channels) by (channels, filters). Large tiles save more and lose more: the
points were chosen for the least error in float32 (compare Barabasz et al. 2020, ACM TOMS 46(4)).
At 7 x 7 pixels it is some 2e-5 of the result for 3 x 3 filters and 5e-5 for 5 x 5, three times that
in the input's gradient; TF32, PyTorch's default for convolutions on a GPU, is at some 3e-4.
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
_TILES = (2, 3, 4, 5, 7)  # sides m
_KERNELS = (3, 5)  # sides r
_NEAR = 24 * 2**20  # floats of one kind in work at once: 96 MB
_FEWEST_CHANNELS = 32


class WinogradConv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, by Winograd's method where that takes fewer multiplications.

    That is on the CPU, in float32 without autocast, channels-last, for one group of 32 channels
    and filters or more, kernels of 3 x 3 or 5 x 5, stride 1; all else is PyTorch's own. Which
    tiles are taken depends on the size of an image, not on how many there are. Results agree to
    some 5e-5 of their size. Differentiable once; a backward pass with create_graph=True raises
    RuntimeError. `winograd = False` turns it off.

        conv2 = WinogradConv2d(96, 256, 5, padding=2)
    """

    winograd = True

    def forward(self, input: Tensor) -> Tensor:
        plan = self._plan(input)
        if plan is None:
            return super().forward(input)
        keep = torch.is_grad_enabled() and self.weight.requires_grad
        return cast(Tensor, _Winograd.apply(input, self.weight, self.bias, plan, keep))

    def _plan(self, x: Tensor) -> "_Plan | None":
        if not (
            self.winograd
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == _DTYPE
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and x.dim() == 4
            and len(x) > 0
            and x.is_contiguous(memory_format=torch.channels_last)
            and min(self.in_channels, self.out_channels) >= _FEWEST_CHANNELS
            and self.kernel_size in [(r, r) for r in _KERNELS]
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
        plans = [_Plan(r, m, height, width, above, left) for m in _TILES]
        channels, filters = self.in_channels, self.out_channels
        best = min(plans, key=lambda plan: plan.cost(channels, filters))
        direct = height * width * r**2 * channels * filters
        return best if best.cost(channels, filters) < direct else None


@dataclass(frozen=True)
class _Plan:
    """A convolution's tiles: `down` x `across` of m x m pixels that cover height x width."""

    r: int
    m: int
    height: int
    width: int
    above: int  # rows of zeros
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

    @property
    def rows(self) -> int:
        """Of the input, with zeros to where the last tile ends."""
        return self.m * self.down + self.r - 1

    @property
    def columns(self) -> int:
        """As `rows`."""
        return self.m * self.across + self.r - 1

    def cost(self, channels: int, filters: int) -> int:
        """Multiplications that an image takes in the products and in its transforms."""
        n, m = self.n, self.m
        inputs, outputs = 2 * n**3 * channels, (n * n * m + n * m * m) * filters
        return self.down * self.across * (n * n * channels * filters + inputs + outputs)

    def transforms(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """A (n, m), B (n, n) and G (n, r)."""
        return _transforms(self.m, self.r, dtype)

    def filters(self, weight: Tensor) -> Tensor:
        """(n n, channels, filters) of a (filters, channels, r, r) weight."""
        _, _, g = self.transforms(weight.dtype)
        k, c, r, _ = weight.shape
        down = g @ weight.permute(2, 3, 1, 0).reshape(r, -1)
        return (g @ down.view(self.n, r, -1)).view(-1, c, k)

    def filters_adjoint(self, under: Tensor) -> Tensor:
        """The adjoint: a (filters, channels, r, r) weight of (n n, channels, filters)."""
        _, _, g = self.transforms(under.dtype)
        (_, c, k), n, r = under.shape, self.n, self.r
        across = torch.bmm(g.T.expand(n, -1, -1), under.view(n, n, -1))
        return (g.T @ across.view(n, -1)).view(r, r, c, k).permute(3, 2, 0, 1)

    def parts(self, images: int, channels: int, filters: int) -> Iterator[slice]:
        """Some images at a time: what lies between two steps, but for tiles that are kept, takes a
        bounded amount of memory."""
        each = self.n**2 * self.down * self.across * max(channels, filters)
        number = -(-images * each // _NEAR)
        step = -(-images // number)
        yield from (slice(at, min(at + step, images)) for at in range(0, images, step))

    def frame(self, x: Tensor, space: "_Space") -> Tensor:
        """(images, rows, columns, channels): an input with zeros to where the last tile ends."""
        rows, columns = self.rows, self.columns
        return _framed(x, rows, columns, self.above, self.left, space)

    def frame_outer(self, grad: Tensor, space: "_Space") -> Tensor:
        """The same of a gradient at the output."""
        return _framed(grad, self.m * self.down, self.m * self.across, 0, 0, space)

    def cut(self, padded: Tensor, matrix: Tensor, space: "_Space", name: str) -> Tensor:
        """(n n, tiles, channels): a (n, q) matrix along both sides of q x q pixels, m apart."""
        (n, q), m = matrix.shape, self.m
        b, _, columns, c = padded.shape
        lines = space.take("lines", (self.down, b, n, columns * c))
        for i in range(self.down):
            rows = padded[:, m * i : m * i + q].flatten(2)
            torch.bmm(matrix.expand(b, -1, -1), rows, out=lines[i])
        apart = lines.view(-1, columns, c)
        tiles = space.take(name, (self.across, len(apart), n, c))
        for j in range(self.across):
            pixels = apart[:, m * j : m * j + q]
            torch.bmm(matrix.expand(len(apart), -1, -1), pixels, out=tiles[j])
        return tiles.view(-1, n * n, c).transpose(0, 1)

    def paste(self, tiles: Tensor, matrix: Tensor, images: int, space: "_Space") -> Tensor:
        """The adjoint of cutting: (images, rows, columns, channels) of (n n, tiles, channels)."""
        (n, q), m, c = matrix.shape, self.m, tiles.shape[2]
        across = space.product("apart", matrix.T, tiles.view(n, n, -1))
        pieces = across.view(n, q, self.across, -1, c).permute(2, 3, 0, 1, 4)
        lines = space.take("lines", (pieces.shape[1], n, m * self.across + q - m, c))
        _overlap(pieces, lines, 2, m)
        down = space.product("apart", matrix.T, lines.flatten(2))
        pieces = down.view(self.down, images, q, -1, c)
        whole = space.take("whole", (images, m * self.down + q - m, lines.shape[2], c))
        _overlap(pieces, whole, 1, m)
        return whole


def _framed(x: Tensor, rows: int, columns: int, above: int, left: int, space: "_Space") -> Tensor:
    """(images, rows, columns, channels) of an (images, channels, H, W), with zeros around it."""
    b, c, height, width = x.shape
    whole = space.take("framed", (b, rows, columns, c))
    below, right = above + height, left + width
    whole[:, :above] = whole[:, below:] = 0
    whole[:, above:below, :left] = whole[:, above:below, right:] = 0
    whole[:, above:below, left:right] = x.permute(0, 2, 3, 1)
    return whole


def _overlap(pieces: Tensor, out: Tensor, dim: int, step: int) -> None:
    """Writes into `out` the sum of pieces that lie so many steps apart along a dimension."""
    for i, piece in enumerate(pieces):
        size = piece.shape[dim]
        common = size - step if i else 0
        out.narrow(dim, i * step, common).add_(piece.narrow(dim, 0, common))
        rest = size - common
        out.narrow(dim, i * step + common, rest).copy_(piece.narrow(dim, common, rest))


class _Winograd(torch.autograd.Function):
    """Keeps the transformed filters and, if asked, the input's tiles for the backward pass.

    The tiles take two to four times the input's memory; the input itself is not kept for it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, keep: bool
    ) -> Tensor:
        a, b, _ = plan.transforms(x.dtype)
        filters, space, kept = plan.filters(weight), _Space(x), []
        y = x.new_empty(len(x), plan.height, plan.width, len(weight))
        for part in plan.parts(len(x), x.shape[1], len(weight)):
            name = f"tiles from {part.start}" if keep else "tiles"
            tiles = plan.cut(plan.frame(x[part], space), b, space, name)
            if keep:
                kept.append(tiles)
            product = space.product("product", tiles, filters)
            pixels = plan.paste(product, a, len(x[part]), space)
            inner = pixels[:, : plan.height, : plan.width]
            torch.add(inner, 0 if bias is None else bias, out=y[part])
        ctx.plan, ctx.shape = plan, x.shape
        ctx.save_for_backward(filters, *kept)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        # PyTorch's once_differentiable lets a constant outer gradient through, with a silent zero.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "WinogradConv2d has no second derivative: do without create_graph=True"
            )
        filters, *kept = ctx.saved_tensors
        plan: _Plan = ctx.plan
        images, channels, height, width = ctx.shape
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        a, b, _ = plan.transforms(grad.dtype)
        space = _Space(grad)
        grad_x = None
        if of_x:
            grad_x = grad.new_empty(images, height, width, channels).permute(0, 3, 1, 2)
        grad_filters = torch.empty_like(filters)
        rows = slice(plan.above, plan.above + height)
        columns = slice(plan.left, plan.left + width)
        for number, part in enumerate(plan.parts(images, channels, filters.shape[2])):
            outer = plan.cut(plan.frame_outer(grad[part], space), a, space, "outer")
            if of_weight:
                tiles = kept[number]
                grad_filters.baddbmm_(tiles.transpose(1, 2), outer, beta=min(part.start, 1))
            if grad_x is not None:
                tiles = space.product("tiles", outer, filters.transpose(1, 2))
                pixels = plan.paste(tiles, b, part.stop - part.start, space)
                grad_x[part] = pixels[:, rows, columns].permute(0, 3, 1, 2)
        return (
            grad_x,
            plan.filters_adjoint(grad_filters) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


class _Space:
    """Memory for every part to use anew: to touch what is fresh from the system takes time."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape, with whatever lies there."""
        size = math.prod(shape)
        if name not in self.held or len(self.held[name]) < size:
            self.held[name] = self.like.new_empty(size)
        return self.held[name][:size].view(shape)

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """A matrix, or a batch of them, by a batch of matrices."""
        out = self.take(name, (len(right), left.shape[-2], right.shape[2]))
        return torch.bmm(left.expand(len(right), -1, -1), right, out=out)


@functools.cache
def _transforms(m: int, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    a, b, g = (torch.from_numpy(matrix) for matrix in toom_cook(m, r))
    return a.to(dtype), b.to(dtype), g.to(dtype)


def toom_cook(m: int, r: int) -> tuple[NDArray[np.float64], ...]:
    """A (n, m), B (n, n) and G (n, r) of one dimension: y = A^T [(G g) * (B d)], n = m + r - 1.

    y_i = sum_j g_j d_{i+j}: m outputs of a correlation with r weights.
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
