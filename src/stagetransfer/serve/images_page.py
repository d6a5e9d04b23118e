"""The test images of a run: a grid, and for one image what the network makes of it."""

from urllib.parse import quote

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from stagetransfer.figures import figure_bytes
from stagetransfer.inference.explanation import explained_figure
from stagetransfer.runs.run import Run
from stagetransfer.serve.run_images import RunImages, images_of, png
from stagetransfer.serve.site import Site

PER_PAGE = 48
OUTCOMES = ("all", "wrong", "right")
ORDERS = ("least confident first", "most confident first", "as in predictions.csv")


def images(site: Site, request: Request) -> Response:
    """Show a grid of a run's test images by class, outcome and confidence."""
    query = request.query_params
    name = query.get("run") or next(iter(site.runs), "")
    if not name:
        return site.page(request, "problem", "Images", line="No run is finished yet.")
    run = _run(site, name)
    predicted, highest = run.probabilities.argmax(1), run.probabilities.max(1)
    chosen = np.ones(len(run.ids), bool)
    for key, values in (("label", run.labels), ("prediction", predicted)):
        if query.get(key) in run.classes:
            chosen &= values == run.classes.index(query[key])
    if query.get("outcome") in OUTCOMES[1:]:
        chosen &= (run.labels == predicted) == (query["outcome"] == "right")
    numbers = np.flatnonzero(chosen)
    if (order := query.get("order", ORDERS[0])) != ORDERS[2]:
        sign = -1 if order == ORDERS[1] else 1
        numbers = numbers[np.argsort(sign * highest[numbers], kind="stable")]
    pages = max(1, -(-len(numbers) // PER_PAGE))
    page = min(max(whole_number(query.get("page"), 1), 1), pages)
    shown = numbers[(page - 1) * PER_PAGE : page * PER_PAGE].tolist()
    return site.page(
        request, "images", "Images", run=run, query=query, outcomes=OUTCOMES, orders=ORDERS,
        thumbs=[thumb(run, number) for number in shown], count=len(numbers), page=page,
        pages=pages, problem=images_of(site, name).problem,
    )  # fmt: skip


def whole_number(text: str | None, default: int) -> int:
    """Return a number of the address; the default for any other text."""
    return int(text) if text and text.isdecimal() and len(text) < 9 else default


def thumb(run: Run, number: int) -> dict[str, object]:
    """Return what a grid shows of a test image."""
    label, predicted = run.labels[number], run.probabilities[number].argmax()
    return {
        "href": f"/images/{quote(run.name)}/{number}",
        "src": f"/test/{quote(run.name)}/{number}.png",
        "wrong": label != predicted,
        "text": f"{run.classes[label]} predicted as {run.classes[predicted]}"
        if label != predicted
        else run.classes[label],
        "value": f"{run.probabilities[number].max():.2f}",
    }


def image(site: Site, request: Request) -> Response:
    """Show one test image: its probabilities, the nearest training images, its explanation."""
    run, number = _asked(site, request)
    p = run.probabilities[number]
    order = p.argsort()[::-1].tolist()
    return site.page(
        request, "image", f"Image {run.ids[number]}", run=run, number=number,
        label=run.classes[run.labels[number]], group=run.groups[number] if run.groups else None,
        classes=[(run.classes[i], float(p[i])) for i in order],
        problem=images_of(site, run.name).problem,
    )  # fmt: skip


def nearest(site: Site, request: Request) -> Response:
    """Return the part of an image's page with the training images nearest to it."""
    run, number = _asked(site, request)
    found = images_of(site, run.name)
    near = found.nearest(found.test_image(number))
    return site.page(request, "nearest", "Most similar training images", run=run.name, near=near)


def explained(site: Site, request: Request) -> Response:
    """Return the figure that explains the predicted class of a test image."""
    run, number = _asked(site, request)
    found = images_of(site, run.name)
    label = int(run.probabilities[number].argmax())
    title = f"{run.classes[label]}, p = {run.probabilities[number, label]:.2f}"
    return explanation(found, found.test_image(number), label, title)


def explanation(found: RunImages, window: Tensor, label: int, title: str) -> Response:
    """Return DeSaliNet's maps of a window beside those of random weights, as a PNG file."""
    examples = found.reference.examples
    figure, _ = explained_figure(found.classifier, examples, window, label, title)
    return Response(figure_bytes(figure, ".png", dpi=110), media_type="image/png")


def test_image(site: Site, request: Request) -> Response:
    """Return the pixels of a test image."""
    run, number = _asked(site, request)
    return png(images_of(site, run.name).test_image(number))


def training_image(site: Site, request: Request) -> Response:
    """Return the pixels of a training image."""
    run, number = _run(site, request.path_params["run"]), request.path_params["number"]
    found = images_of(site, run.name).reference.examples.images
    if number >= len(found):
        raise HTTPException(404, f"{run.name}: no training image {number}")
    return png(found[number : number + 1])


def _run(site: Site, name: str) -> Run:
    if name not in site.runs:
        raise HTTPException(404, f"{name[:100]}: no finished run of this name")
    return site.runs[name]


def _asked(site: Site, request: Request) -> tuple[Run, int]:
    """Return the run and the number of the image that the address names."""
    run, number = _run(site, request.path_params["run"]), request.path_params["number"]
    if number >= len(run.ids):
        raise HTTPException(404, f"{run.name}: no test image {number}")
    return run, number
