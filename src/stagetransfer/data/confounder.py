"""A planted confounder: it goes with one class in training, and not in the test.

Of that class's images the share `confounder` has it, and of all others 1 - `confounder`. So at
0.5 it is unrelated to the class, and near 1 a network may learn it in place of the class.

Its kind is a mark (a white square in the corner, an eighth of the side wide), a frequency (a wave
from left to right with CYCLES periods per side, of this AMPLITUDE) or a noise level (white Gaussian
noise with the standard deviation SIGMA). Amplitudes are in grey values of 0 to 255.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples
from stagetransfer.seeding import derive

CYCLES = 8
AMPLITUDE = SIGMA = 10.0  # 4 % of the range


class Confounder(NamedTuple):
    """The kind of a confounder, and which of the N samples, named by `ids`, bear it."""

    kind: str
    bears: NDArray[np.bool_]
    ids: Sequence[str]

    def plant(self, images: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return stored images (B, C, H, W) of these rows; those that bear it are changed.

        The noise of an image depends on its id alone. All channels get the same.
        """
        places = np.flatnonzero(self.bears[rows])
        height, width = images.shape[-2:]
        chosen, images = torch.from_numpy(places), images.clone()
        if self.kind == "mark":
            side = max(width // 8, 1)
            images[chosen, :, :side, :side] = 255
        elif len(places):
            if self.kind == "frequency":
                phases = 2 * np.pi * CYCLES * np.arange(width) / width
                pattern = np.tile(AMPLITUDE * np.cos(phases), (1, height, 1))
            else:
                seeds = [derive(0, "confounder noise", self.ids[row]) for row in rows[places]]
                draws = [np.random.default_rng(seed).normal(size=(height, width)) for seed in seeds]
                pattern = SIGMA * np.stack(draws)
            changed = images[chosen] + torch.from_numpy(pattern)[:, None]
            images[chosen] = changed.round().clamp(0, 255).to(torch.uint8)
        return images


def draw_confounder(
    samples: Samples, test: NDArray[np.int64], settings: DomainSettings, key: str
) -> Confounder | None:
    """Return which of the N samples bear the confounder; None without one.

    The draw depends on the image's id alone. Training and validation images have the correlation;
    in the `test` rows it is the same, reversed, or no image has it, by `confounder_test`.
    UserError if the class is unknown.
    """
    if settings.confounder is None:
        return None
    name = settings.confounder_class or samples.classes[0]
    if name not in samples.classes:
        known = ", ".join(samples.classes)
        raise UserError(f"{key}.confounder_class={name}: none of the classes {known}. Give one.")
    own = samples.labels == samples.classes.index(name)
    share = np.where(own, settings.confounder, 1 - settings.confounder)
    tested = {"same": share, "reversed": 1 - share, "absent": 0 * share}
    share[test] = tested[settings.confounder_test or "reversed"][test]
    draws = np.array([derive(0, "confounder", one) / 2**63 for one in samples.ids])
    return Confounder(settings.confounder_kind or "mark", draws < share, samples.ids)
