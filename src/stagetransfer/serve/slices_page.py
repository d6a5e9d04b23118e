"""The second opinion: a slice of the input folder as a run reads it, and the reason of a window.

Research use, not a diagnosis. Everything is computed as `stagetransfer predict` does.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from scipy import ndimage
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stagetransfer.ct import Problems
from stagetransfer.errors import UserError
from stagetransfer.formats.unusable import Unreadable
from stagetransfer.inference import SlicePrediction, find_input, predict_slice
from stagetransfer.inference.label_map import DISCLAIMER, check_class_names, label_shares
from stagetransfer.inference.lung_mask import Lungs, lungs_of
from stagetransfer.inference.prediction_figures import label_colours
from stagetransfer.inference.prediction_input import check_widths
from stagetransfer.serve.images_page import explanation, whole_number
from stagetransfer.serve.run_images import images_of, png
from stagetransfer.serve.site import Site

NOT_READ_GREY = 170


class Reading:
    """The input folder of the second opinion, its series, and the slices that were read last."""

    def __init__(self, site: Site) -> None:
        assert site.opinion is not None
        self.root, self.run = site.opinion
        if self.run not in site.runs:
            raise UserError(f"--run {self.run}: is not among the runs. Give its outputs folder too")
        check_class_names(site.runs[self.run].classes)
        self.images, self.problems = images_of(site, self.run), Problems()
        self.patches = self.images.reference.patches
        self.source = find_input(self.root, self.patches, self.problems)
        if not self.source.chosen:
            lines = "; ".join(self.problems.lines[:3])
            raise UserError(f"{self.root}: holds no series that can be read. {lines}")
        self.classifier = self.images.classifier
        self.lungs = lru_cache(maxsize=4)(self._lungs)
        self.slice = lru_cache(maxsize=16)(self._slice)

    def notes(self, series: int) -> list[str]:
        """Return what `predict` says about the width and the grey window of a series' windows."""
        reference = self.images.reference
        lines = [reference.window_note] * bool(reference.window_note)
        source = replace(self.source, chosen=(series,))
        check_widths(source, self.patches, reference.field, lines.append)
        return lines

    def _lungs(self, series: int) -> Lungs:
        return lungs_of(self.source.volumes[series])

    def _slice(self, series: int, index: int) -> SlicePrediction:
        volume = self.source.volumes[series]
        try:
            hu = volume.read_slice(index)
        except Unreadable as error:
            raise UserError(f"{volume.files[index]}: {error}") from error
        lung = self.lungs(series).mask(index)
        return predict_slice(self.classifier, hu, lung, volume.spacing, self.patches)


def slices(site: Site, request: Request) -> Response:
    """Show a slice with its label map."""
    if site.opinion is None:
        return site.page(request, "slices", "Second opinion", reading=None, notice=DISCLAIMER)
    reading, query = _reading(site), request.query_params
    series = whole_number(query.get("series"), reading.source.chosen[0])
    if series not in reading.source.chosen:
        raise HTTPException(404, "The input has no such series")
    count = len(reading.source.volumes[series])
    index = whole_number(query.get("slice"), count // 2)
    if index >= count:
        raise HTTPException(404, f"The series has the slices 0 to {count - 1}")
    found, names = reading.slice(series, index), reading.classifier.label_names
    colours = [*map(to_hex, label_colours(len(names) - 3)), to_hex((NOT_READ_GREY / 255,) * 3)]
    shares = label_shares(found.labels, names).values()
    return site.page(
        request, "slices", "Second opinion", reading=reading, notice=DISCLAIMER, series=series,
        index=index, count=count, found=found, codes=list(zip(names, colours, shares, strict=True)),
        volumes={n: reading.source.volumes[n].where for n in reading.source.chosen},
        reason=_reason(reading, found, query) if "x" in query else None,
    )  # fmt: skip


def layer(site: Site, request: Request) -> Response:
    """Return one layer of a slice: grey values, the outline of the lungs, or the area of a code."""
    reading, found = _asked(site, request)
    name = request.path_params["layer"]
    if name == "grey":
        return png(found.grey)
    if name == "outline":
        return png(_layer(found.lung & ~ndimage.binary_erosion(found.lung), (255, 255, 255)))
    code, names = whole_number(name, -1), reading.classifier.label_names
    if not 0 <= code < len(names):
        raise HTTPException(404, f"no layer {name[:20]}")
    shown = found.labels == code
    rows, columns = np.indices(shown.shape)
    if code == len(names) - 1:  # hatched, because nothing is known about it
        return png(_layer(shown & ((rows + columns) % 6 < 3), (NOT_READ_GREY,) * 3))
    colour = label_colours(len(names) - 3)[code]
    picture = _layer(shown, tuple(round(255 * part) for part in colour))
    if code == len(names) - 2:  # striped, as in the pictures of `predict`
        picture[shown & ((rows - columns) % 6 < 3), 3] = 64
    return png(picture)


def window(site: Site, request: Request) -> Response:
    """Return the part of the page on the window at a position of a slice."""
    reading, found = _asked(site, request)
    reason, at = _reason(reading, found, request.query_params), request.path_params
    return site.page(request, "window", "Window", reason=reason, reading=reading, **at)


def explained(site: Site, request: Request) -> Response:
    """Return the figure that explains a window."""
    reading, found = _asked(site, request)
    number = whole_number(request.query_params.get("window"), len(found.predictions))
    if number >= len(found.predictions):
        raise HTTPException(404, "The slice has no such window")
    label = int(found.predictions.most_probable[number])
    p = found.predictions.probabilities[number, label]
    title = f"{reading.classifier.classes[label]}, p = {p:.2f}"
    return explanation(reading.images, found.prepared.window(number), label, title)


def _reason(reading: Reading, found: SlicePrediction, query: QueryParams) -> dict[str, object]:
    """Return what is known about the window with the centre that is nearest to a pixel."""
    height, width = found.lung.shape
    x, y = whole_number(query.get("x"), width), whole_number(query.get("y"), height)
    if x >= width or y >= height:
        return {"line": f"x must be 0 to {width - 1} and y 0 to {height - 1}."}
    number = found.window_at(x, y)
    if number < 0:
        where = "in the lungs, but in no window" if found.lung[y, x] else "outside the lungs"
        return {"line": f"x {x}, y {y}: {where}."}
    classifier, predictions = reading.classifier, found.predictions
    p, code = predictions.probabilities[number], predictions.codes[number]
    order, limit = p.argsort()[::-1].tolist(), classifier.max_distance
    why = {
        len(p): f"No class reaches a probability of {classifier.min_probability:g}.",
        len(p) + 1: f"Its distance from the training images is {predictions.distances[number]:.2f},"
        f" more than that of 95 % of the validation images ({limit:.2f}).",
    }
    near = reading.images.nearest(found.prepared.window(number))
    side = reading.patches.size * np.array(found.prepared.raster.scale)
    # Centres count from the centre of the first pixel, the box from its corner.
    left, top = found.centres[number] + 0.5 - side[::-1] / 2
    return {
        "line": f"Window at x {x}, y {y}: {classifier.label_names[code]}.",
        "why": why.get(int(code), ""), "number": number, "near": near,
        "classes": [(classifier.classes[i], float(p[i])) for i in order],
        "box": " ".join(f"{value:.1f}" for value in (left, top, side[1], side[0])),
    }  # fmt: skip


def _layer(shown: NDArray[np.bool_], colour: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return (H, W, 4): this colour where the pixels are shown, and nothing elsewhere."""
    return np.where(shown[:, :, None], np.array([*colour, 255]), 0).astype(np.uint8)


def _reading(site: Site) -> Reading:
    if site.reading is None:
        site.reading = Reading(site)
    found: Reading = site.reading
    return found


def _asked(site: Site, request: Request) -> tuple[Reading, SlicePrediction]:
    series, index = request.path_params["series"], request.path_params["index"]
    if site.opinion is None:
        raise HTTPException(404, "There is no input folder")
    reading = _reading(site)
    if series not in reading.source.chosen or index >= len(reading.source.volumes[series]):
        raise HTTPException(404, "The input has no such slice")
    return reading, reading.slice(series, index)
