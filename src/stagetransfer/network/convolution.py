"""Convolution with fewer multiplications on the CPU, in matrix products.

An output tile of m x m pixels of an r x r filter takes n = m + r - 1 squared multiplications in
place of m * m * r * r (Winograd 1980; Lavin, Gray 2016, arXiv 1509.09308):

    Y = A^T [(G g G^T) * (B^T d B)] A

for a filter g and the n x n pixels d under the tile. A, B and G evaluate polynomials at n - 1
points and at infinity (Toom, Cook). Summed over channels the product in brackets is n * n matrix
products of (tiles, channels) by (channels, filters). The points were chosen for the least error in
float32 (compare Barabasz et al. 2020, ACM TOMS 46(4)): some 1e-6 of the result for 3 x 3 and 3e-6
for 5 x 5, twice and six times that of a direct convolution.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_POINTS = (0.0, 1.0, -1.0, 2.0, -0.5, -2.0, 0.5)
_DTYPE = torch.float32
_TILES = (2, 3, 4)  # sides m
_KERNELS = (3, 5)  # sides r
_NEAR = 3 * 2**20  # floats of one kind in work at once: 12 MB, of a cache of 16 or more
_FEWEST_TILES = 9  # in an image, so that its result does not depend on how many a batch has
_FEWEST_CHANNELS = 32


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, by Winograd's method where that is faster.

    That is on the CPU, in float32 without autocast, channels-last, for one group of 32 channels
    and filters or more, kernels of 3 x 3 or 5 x 5, stride 1, outputs of 9 x 9 pixels or so; all
    else is PyTorch's own. Results agree to some 1e-6 of their size. Differentiable once; a backward
    pass with create_graph=True raises RuntimeError. `winograd = False` turns it off.

        conv2 = Conv2d(96, 256, 5, padding=2)
    """

    winograd = True

    def forward(self, input: Tensor) -> Tensor:
        plan = self._plan(input)
        if plan is None:
            return super().forward(input)
        return cast(Tensor, _Winograd.apply(input, self.weight, self.bias, plan))

    def _plan(self, x: Tensor) -> "_Plan | None":
        if not (
            self.winograd
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == _DTYPE
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and x.dim() == 4
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
        plans = [
            _Plan(r, m, -(-height // m), -(-width // m), height, width, above, left) for m in _TILES
        ]
        best = min(plans, key=lambda plan: plan.down * plan.across * plan.n**2)
        return best if best.down * best.across >= _FEWEST_TILES else None


@dataclass(frozen=True)
class _Plan:
    """A convolution's tiles: `down` x `across` of m x m pixels that cover height x width."""

    r: int
    m: int
    down: int
    across: int
    height: int
    width: int
    above: int  # rows of zeros
    left: int

    @property
    def n(self) -> int:
        return self.m + self.r - 1

    def transforms(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """A, B and G for rows and columns at once: (n n, m m), (n n, n n), (n n, r r)."""
        return _transforms(self.m, self.r, dtype)

    def filters(self, weight: Tensor) -> Tensor:
        """(n n, channels, filters) of a (filters, channels, r, r) weight."""
        _, _, g = self.transforms(weight.dtype)
        k, c = weight.shape[:2]
        return (g @ weight.permute(2, 3, 1, 0).reshape(-1, c * k)).view(-1, c, k)

    def parts(self, x: Tensor, filters: int) -> Iterator[slice]:
        """Some images at a time, so that what lies between two steps stays in the caches."""
        each = self.n**2 * self.down * self.across * max(x.shape[1], filters)
        number = -(-len(x) * each // _NEAR)
        step = -(-len(x) // number)
        yield from (slice(at, min(at + step, len(x))) for at in range(0, len(x), step))

    def gather(self, x: Tensor, space: "_Space") -> Tensor:
        """(tiles, n n, channels): what (images, channels, H, W) holds under each tile, with B."""
        m, n = self.m, self.n
        (b, c, height, width), (_, transform, _) = x.shape, self.transforms(x.dtype)
        rows, columns = m * self.down + n - m, m * self.across + n - m
        below, right = rows - height - self.above, columns - width - self.left
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, self.left, right, self.above, below))
        image, row, column, channel = padded.stride()
        under = padded.as_strided(
            (b, self.down, self.across, n, n, c),
            (image, m * row, m * column, row, column, channel),
        )
        pixels = space.take("pixels", under.shape).copy_(under)
        return space.product("input", transform, pixels.view(-1, n * n, c))

    def scatter(self, under: Tensor, out: Tensor) -> None:
        """The adjoint of gathering: (tiles, n n, channels) pixels under tiles summed into `out`."""
        m, n = self.m, self.n
        b, c, height, width = out.shape
        pixels = under.reshape(b, self.down, self.across, n, n, c).transpose(2, 3)
        over = -(-n // m) - 1  # so many tiles further on a tile's pixels reach
        grid = out.new_zeros(b, self.down + over, m, self.across + over, m, c)
        for i in range(0, n, m):
            rows = slice(i // m, i // m + self.down)
            for j in range(0, n, m):
                columns = slice(j // m, j // m + self.across)
                some = pixels[:, :, i : i + m, :, j : j + m]
                grid[:, rows, : some.shape[2], columns, : some.shape[4]] += some
        padded = grid.view(b, (self.down + over) * m, -1, c)
        inner = padded[:, self.above : self.above + height, self.left : self.left + width]
        out.copy_(inner.permute(0, 3, 1, 2))


class _Winograd(torch.autograd.Function):
    """Keeps its input and the transformed filters for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan) -> Tensor:
        m, k = plan.m, len(weight)
        a, _, _ = plan.transforms(x.dtype)
        filters, space = plan.filters(weight), _Space(x)
        ctx.save_for_backward(x, filters)
        ctx.plan = plan
        y = x.new_empty(len(x), plan.height, plan.width, k)
        for part in plan.parts(x, k):
            tiles = plan.gather(x[part], space)
            product = space.products("product", tiles, filters)
            pixels = space.product("output", a.T, product)
            whole = pixels.view(-1, plan.down, plan.across, m, m, k).transpose(2, 3)
            whole = whole.reshape(-1, m * plan.down, m * plan.across, k)
            inner = whole[:, : plan.height, : plan.width]
            y[part] = inner if bias is None else inner + bias
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        # PyTorch's once_differentiable lets a constant outer gradient through, with a silent zero.
        if torch.is_grad_enabled():
            raise RuntimeError("Conv2d has no second derivative: do without create_graph=True")
        x, filters = ctx.saved_tensors
        plan: _Plan = ctx.plan
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        m, (_, c, k) = plan.m, filters.shape
        a, b, g = plan.transforms(x.dtype)
        space = _Space(x)
        grad_x = torch.empty_like(x) if of_x else None
        grad_filters = torch.zeros_like(filters)
        margin = (0, 0, 0, m * plan.across - plan.width, 0, m * plan.down - plan.height)
        for part in plan.parts(x, k):
            outer = F.pad(grad[part].permute(0, 2, 3, 1), margin)
            outer = outer.reshape(-1, plan.down, m, plan.across, m, k).transpose(2, 3)
            pixels = space.take("pixels", outer.shape).copy_(outer).view(-1, m * m, k)
            product = space.product("product", a, pixels)
            if of_weight:
                tiles = plan.gather(x[part], space).transpose(0, 1)
                grad_filters.baddbmm_(tiles.transpose(1, 2), product.transpose(0, 1))
            if grad_x is not None:
                tiles = space.products("input", product, filters.transpose(1, 2))
                plan.scatter(space.product("pixels", b.T, tiles), grad_x[part])
        grad_weight = (g.T @ grad_filters.view(-1, c * k)).view(plan.r, plan.r, c, k)
        return (
            grad_x,
            grad_weight.permute(3, 2, 0, 1) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
        )


class _Space:
    """Memory for every part to use anew: to touch what is fresh from the system takes time."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape, with whatever lies there."""
        size = int(np.prod(shape))
        if name not in self.held or len(self.held[name]) < size:
            self.held[name] = self.like.new_empty(size)
        return self.held[name][:size].view(shape)

    def product(self, name: str, matrix: Tensor, pixels: Tensor) -> Tensor:
        """(tiles, p, channels): a (p, q) matrix by the q pixels of each tile."""
        out = self.take(name, (len(pixels), len(matrix), pixels.shape[2]))
        return torch.bmm(matrix.expand(len(pixels), -1, -1), pixels, out=out)

    def products(self, name: str, tiles: Tensor, filters: Tensor) -> Tensor:
        """(tiles, n n, b): the sum over a of (tiles, n n, a) by (n n, a, b)."""
        out = self.take(name, (len(filters), len(tiles), filters.shape[2]))
        return torch.bmm(tiles.transpose(0, 1), filters, out=out).transpose(0, 1)


@functools.cache
def _transforms(m: int, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    a, b, g = (torch.from_numpy(matrix) for matrix in toom_cook(m, r))
    return torch.kron(a, a).to(dtype), torch.kron(b, b).to(dtype), torch.kron(g, g).to(dtype)


def toom_cook(m: int, r: int) -> tuple[NDArray[np.float64], ...]:
    """A (n, m), B (n, n) and G (n, r) of one dimension: y = A^T [(G g) * (B d)], n = m + r - 1.

    y_i = sum_j g_j d_{i+j}: m outputs of a correlation with r weights.
    """
    n = m + r - 1
    points = np.array(_POINTS[: n - 1])
    others = [np.delete(points, i) for i in range(n - 1)]
    infinite = np.eye(1, n, n - 1)
    a = np.vstack([np.vander(points, m, increasing=True), infinite[:, n - m :]])
    g = np.vstack([np.vander(points, r, increasing=True), infinite[:, n - r :]])
    g[:-1] /= [[np.prod(p - rest)] for p, rest in zip(points, others, strict=True)]
    b = np.zeros((n, n))
    for i, roots in enumerate([*others, points]):
        b[i, : len(roots) + 1] = np.poly(roots)[::-1]
    return a, b, g
