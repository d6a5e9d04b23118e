"""Two conditions side by side: what only one of them gets right, by class, patient and image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from stagetransfer.pages import formatting as fmt
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Pair, Study
from stagetransfer.serve.images_page import thumb
from stagetransfer.serve.overview_page import choice
from stagetransfer.serve.run_images import images_of
from stagetransfer.serve.site import Site
from stagetransfer.statistics import POINTS

MAX_IMAGES, MAX_PATIENTS = 24, 40


def compare(site: Site, request: Request) -> Response:
    """Compare the runs of two conditions at one ratio and one seed."""
    query, (data_set, only, _) = request.query_params, choice(site, request)
    if not data_set:
        return site.page(request, "problem", "Compare", line="No run is finished yet.")
    study, _ = site.study(data_set, only, ())
    ratio = next((r for r in study.ratios if fmt.ratio(r) == query.get("ratio")), study.main_ratio)
    pairs = {f"{pair.a} - {pair.b}": pair for pair in study.pairs(ratio, ["accuracy"])}
    if not pairs:
        line = "Only one condition has finished runs, so there is nothing to compare."
        return site.page(request, "problem", "Compare", line=line)
    name = query.get("pair", "")
    name = name if name in pairs else next(iter(pairs))
    pair, seed = pairs[name], query.get("seed")
    chosen = next((i for i, one in enumerate(pair.seeds) if str(one) == seed), 0)
    values: dict[str, Any] = {}
    if not pair.refusal:
        values = _side_by_side(site, study, pair, chosen)
    return site.page(
        request, "compare", "Compare", data_set=data_set, only=only, shown_ratio=fmt.ratio(ratio),
        settings=site.settings(data_set), pairs=pairs, name=name, pair=pair, chosen=chosen,
        ratios=[fmt.ratio(r) for r in study.ratios], **values,
    )  # fmt: skip


def _side_by_side(site: Site, study: Study, pair: Pair, chosen: int) -> dict[str, Any]:
    """Return the difference as in the report, and the images of one seed by who is right."""
    result, seeds = pair.metrics["accuracy"], fmt.count(len(pair.seeds), "seed")
    shown = fmt.difference(result.estimate, result.low, result.high, POINTS)
    shown = shown.replace("\n", " points, 95 % interval ")
    a, b = pair.of_a[chosen], pair.of_b[chosen]
    right_a, right_b = (study.predictions(run) == study.labels for run in (a, b))
    classes = np.array(study.classes)[study.labels]
    left_out = 0
    tables = {"class": _counts(classes, study.classes, right_a, right_b)}
    if study.groups is not None:
        rows = _counts(study.groups, sorted({*study.groups.tolist()}), right_a, right_b)
        rows.sort(key=lambda row: -abs(row[-2] - row[-1]))
        unlike = [row for row in rows if row[-2] or row[-1]]
        tables["patient"] = unlike[:MAX_PATIENTS]
        left_out = len(rows) - len(tables["patient"])
    problems = [images_of(site, run.parts[0].name).problem for run in (a, b)]
    only = [(pair.a, right_a & ~right_b), (pair.b, right_b & ~right_a)]
    return {
        "difference": f"{shown}, p {fmt.p_value(pair.holm.get('accuracy'))}, {seeds}",
        "tables": tables,
        "left_out": left_out,
        "only_one": [
            (name, int(which.sum()), _thumbs(a, study, which), _thumbs(b, study, which))
            for name, which in only
        ],
        "problem": problems[0] or problems[1],
    }


def _counts(
    of: NDArray[np.str_], names: Sequence[str], a: NDArray[np.bool_], b: NDArray[np.bool_]
) -> list[tuple[Any, ...]]:
    """Return, for each name, the images, those right in a and in b, and in only one of them."""
    rows = []
    for name in names:
        own = of == name
        sets = (own, own & a, own & b, own & a & ~b, own & b & ~a)
        rows.append((name, *(int(one.sum()) for one in sets)))
    return rows


def _thumbs(run: Run, study: Study, which: NDArray[np.bool_]) -> list[dict[str, object]]:
    """Return the first of these images, as the run reads them."""
    places = {name: (part, i) for part in run.parts for i, name in enumerate(part.ids)}
    return [thumb(*places[study.ids[i]]) for i in np.flatnonzero(which)[:MAX_IMAGES]]
