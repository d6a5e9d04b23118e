"""A planted confounder: a white mark that goes with one class in training, and not in the test.

Of that class's images the share `confounder` bears the mark, and of all others 1 - `confounder`. So
at 0.5 the mark says nothing, and near 1 a network may learn it in place of the class.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError
from stagetransfer.seeding import derive


def draw_marked(
    samples: Samples, test: NDArray[np.int64], settings: DomainSettings, key: str
) -> NDArray[np.bool_] | None:
    """Return which of the N samples bear the mark (N,); None without a confounder.

    The draw depends on the image's id alone. Training and validation images have the correlation;
    in the `test` rows it is the same, reversed, or no image has the mark, by `confounder_test`.

    Raises:
        UserError: the class is unknown.
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
    return np.array([derive(0, "confounder", one) / 2**63 for one in samples.ids]) < share


def mark(images: Tensor, marked: Tensor) -> Tensor:
    """Return stored images (B, C, H, W) with a white square in the corner of the `marked` (B,).

    It is an eighth of the side wide.
    """
    side, images = max(images.shape[-1] // 8, 1), images.clone()
    images[marked.to(images.device), :, :side, :side] = 255
    return images
