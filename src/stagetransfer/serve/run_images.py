"""Images and networks of finished runs, each read when it is first asked for and then kept."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.inference import CalibratedClassifier, Reference, open_reference
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.run import Run
from stagetransfer.serve.site import Site


@dataclass(frozen=True)
class RunImages:
    """The test and training images of a finished run, and its network."""

    run: Run
    device: str

    @cached_property
    def restored(self) -> RestoredRun:
        """The run with its network and data."""
        return restore_runs([self.run.folder])[0]

    @property
    def problem(self) -> str:
        """Why the images are not available; empty if they are."""
        try:
            _ = self._positions
        except UserError as error:
            return str(error)
        return ""

    @cached_property
    def _positions(self) -> dict[str, int]:
        data = self.restored.data
        return {data.samples.ids[row]: i for i, row in enumerate(data.rows["test"].tolist())}

    def test_image(self, number: int) -> Tensor:
        """Return a test image (1, C, H, W) uint8, by its row in predictions.csv."""
        return self.restored.data.stored("test", [self._positions[self.run.ids[number]]])

    @cached_property
    def reference(self) -> Reference:
        """What is known of the training images. The first use of a run reads them."""
        return open_reference(self.restored, self.device)[0]

    @cached_property
    def classifier(self) -> CalibratedClassifier:
        """The calibrated network, with the defaults of `stagetransfer predict`."""
        return self.reference.classifier(self.restored, device=self.device)

    def nearest(self, image: Tensor, count: int = 8) -> list[tuple[int, str, float]]:
        """Return number, class and distance of the training images nearest to an image."""
        distances, numbers = self.classifier.nearest(image, count)
        labels = self.reference.examples.labels[numbers].tolist()
        names = [self.classifier.classes[label] for label in labels]
        return list(zip(numbers, names, distances, strict=True))


def images_of(site: Site, name: str) -> RunImages:
    """Return the images of a run; those of the last few runs are kept."""
    device = site.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    run, kept = site.runs[name], site.kept
    if name not in kept or kept[name].run is not run:
        kept[name] = RunImages(run, device)
        for old in [*kept][:-4]:
            del kept[old]
    found: RunImages = kept[name]
    return found


def png(pixels: NDArray[np.uint8] | Tensor) -> Response:
    """Return an image (H, W), (H, W, 3 or 4) or (1, C, H, W) uint8 as the answer to a request."""
    if isinstance(pixels, Tensor):
        pixels = pixels[0].movedim(0, -1).cpu().numpy()
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.squeeze())).save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png")
