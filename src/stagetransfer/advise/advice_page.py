"""The page of an advice: the answer, the ranking, the recall of every block, what to run next."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stagetransfer.advise.advice import Advice
from stagetransfer.advise.candidates import RANDOM
from stagetransfer.advise.probe import DIMENSIONS, FOLDS, NEIGHBOURS
from stagetransfer.advise.short_trainings import Tried
from stagetransfer.figures import STYLE, new_figure
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Plot, Section, Table, Text, data_frame
from stagetransfer.pages.plots import line_styles
from stagetransfer.statistics import POINTS

METHOD = (
    "A linear classifier is trained on the features of a block and tested on images of other "
    f"patients, in {FOLDS} folds at most and several random divisions. Features are averaged over "
    f"positions and reduced to {DIMENSIONS} components. Intervals are 95 % intervals. Patients, "
    "divisions and the seeds of the sources are resampled together, and all candidates share the "
    "resamples. The best block is chosen by the same recalls, so every recall is a little too "
    "high. A probe measures features before any tuning. It does not show what tuning changes, and "
    "the recall of random weights does not show how well a network trained from scratch performs. "
    "On a public benchmark, such scores alone are no better than always taking ImageNet weights; "
    "see the documentation."
)
SCORES_NOTE = (
    "Scores of the features of the best block. A higher value predicts a better result. Only "
    "values of the same column can be compared. LEEP uses the source's own classes, so it means "
    f"nothing for random weights. The nearest neighbours are {NEIGHBOURS}. Feature utility is one "
    "number for a network, from the gradients of its first two layers. CKA, if there are runs from "
    "scratch on this target, is the mean over blocks of the similarity to their networks."
)


def advice_page(
    advice: Advice,
    tried: Sequence[Tried],
    doubts: Sequence[str],
    commands: Sequence[str],
    looks: pd.DataFrame,
    looked_by: str,
) -> list[Section]:
    """Return the sections of the page; `looks` is that of `alike`, by the features `looked_by`."""
    answer: list[Block] = [Text(advice.sentence)]
    if doubts:
        answer.append(Bullets(doubts, kind="problems"))
    return [
        Section("Answer", [*answer, _plot(advice), _ranking(advice)]),
        Section("Next", [Text("Commands to test the advice on the test set:"), Bullets(commands)]),
        *([Section("Short trainings", [_trainings(tried)])] if tried else []),
        Section("How similar the images are", [_alike(looks, looked_by)]),
        Section("Every block", [_blocks(advice)]),
        Section("Other scores", [_scores(advice)]),
        Section("Method", [Text(METHOD)]),
    ]


def _ranking(advice: Advice) -> Table:
    rows = []
    for one in advice.ranking:
        recall = fmt.mean(one.recall.estimate, one.recall.low, one.recall.high)
        gain, behind = (
            fmt.difference(of.estimate, of.low, of.high, POINTS) for of in (one.gain, one.behind)
        )
        is_random, is_first = one.candidate.name == RANDOM, one is advice.ranking[0]
        cells = [fmt.DASH if is_random else gain, fmt.DASH if is_first else behind]
        cells += [fmt.number(one.prior, 2), str(one.candidate.trained)]
        rows.append([one.candidate.name, one.block, one.tune_from, recall, *cells])
    columns = ["candidate", "best block", "tune from", "macro recall", "gain", "behind the first"]
    columns += ["rank on other targets", "stages"]
    note = (
        "gain: points of macro recall over random weights. behind the first: points of macro "
        "recall; if the interval lies above 0, the first candidate's probe is better. rank on "
        "other targets: the mean rank of its runs on other targets in these outputs, from 0 "
        "(worst) to 1 (best). stages: the number of stages that were trained for it."
    )
    title = "Candidates, the best probe first"
    return Table("advice", title, columns, rows, [note], advice.table(), left=3)


def _trainings(tried: Sequence[Tried]) -> Table:
    rows, data = [], []
    for one in tried:
        name, recall = one.ranked.candidate.name, (one.recall, one.low, one.high)
        data.append((name, one.epochs, one.cross_entropy, *recall, one.seconds))
        loss, seconds = fmt.number(one.cross_entropy), fmt.number(one.seconds, 0)
        rows.append([name, str(one.epochs), loss, fmt.mean(*recall), seconds])
    names = "candidate epochs cross_entropy recall recall_low recall_high seconds"
    frame = data_frame(names, data)
    note = (
        "Each training has one seed, and is judged on the validation images of the recipe. The "
        "half of the candidates with the lower cross-entropy was trained for twice as long."
    )
    columns = ["candidate", "epochs", "cross-entropy", "macro recall", "seconds"]
    return Table("trainings", "Short trainings, on validation images", columns, rows, [note], frame)


def _alike(looks: pd.DataFrame, looked_by: str) -> Table:
    whole, short = ["count", "classes", "patients"], ["effective_classes", "spectrum_slope"]
    others = ["grey", "contrast", "colour", "neighbours", "frechet", "classifier_accuracy"]
    digits = dict.fromkeys(whole, 0) | dict.fromkeys(short, 1) | dict.fromkeys(others, 2)
    rows = [
        [str(row["images"]), *(fmt.number(row[name], digits[name]) for name in looks.columns[1:])]
        for row in looks.to_dict("records")
    ]
    columns = [str(name).replace("_", " ") for name in looks.columns]
    return Table("alike", "The target's and the sources' training images", columns, rows, [
        "effective classes: exponential of the entropy of their shares. grey, contrast, colour: "
        "mean, standard deviation and distance from grey, in [0, 1]. neighbours: correlation of "
        "neighbouring pixels. spectrum slope: of log power against log frequency.",
        "frechet, classifier accuracy: Fréchet distance from the target, and balanced accuracy of "
        "a linear classifier that distinguishes the images from those of the target (0.5 if it "
        f"cannot), both on features of {looked_by}. Two halves of the target, with different "
        "patients, show which values equal images would have.",
    ], looks)  # fmt: skip


def _blocks(advice: Advice) -> Table:
    names = [one.candidate.name for one in advice.ranking]
    found = {(of, block): value for of, block, value in advice.blocks.itertuples(index=False)}
    rows = [
        [block, *(fmt.number(found[name, block]) for name in names)]
        for block in dict.fromkeys(block for _, block in found)
    ]
    title = "Macro recall of the linear probe on the features of each block"
    note = (
        "From the input to the output. If the recall falls towards the end, the last blocks are "
        "specific to the source's own classes and should be tuned."
    )
    return Table("blocks", title, ["block", *names], rows, [note], advice.blocks)


def _scores(advice: Advice) -> Table:
    names = list(advice.ranking[0].scores)
    rows = [
        [one.candidate.name, *(fmt.number(one.scores[name]) for name in names)]
        for one in advice.ranking
    ]
    title = "Other scores of the same features"
    data = advice.table()[["candidate", *names]]
    return Table("scores", title, ["candidate", *names], rows, [SCORES_NOTE], data)


@mpl.rc_context(STYLE)
def _figure(advice: Advice) -> Figure:
    ranking = list(reversed(advice.ranking))
    figure = new_figure(7.4, max(2.4, 0.3 * len(ranking) + 1.3))
    left, right = figure.subplots(1, 2)
    for place, one in enumerate(ranking):
        recall = one.recall
        if np.isfinite([recall.low, recall.high]).all():
            left.plot([recall.low, recall.high], [place, place], color="#0072B2")
        left.plot(recall.estimate, place, "o", color="#0072B2")
    left.axvline(advice.chance, color="#777777", linestyle=":", linewidth=1)
    left.set_yticks(range(len(ranking)), [one.candidate.name for one in ranking])
    left.set_xlabel("macro recall of the probe (dotted: chance)")
    shown = [*advice.ranking[:5], *(x for x in advice.ranking[5:] if x.candidate.name == RANDOM)]
    styles = line_styles(one.candidate.name for one in shown)
    for one in shown:
        name = one.candidate.name
        right.plot(list(one.by_ratio), list(one.by_ratio.values()), label=name, **styles[name])
    right.set_xlabel("share r of the training images")
    right.set_ylabel("macro recall of the probe")
    right.legend(fontsize=7)
    return figure


def _plot(advice: Advice) -> Plot:
    caption = (
        "Left: the linear probe of each candidate's best block with all training images, with its "
        "95 % interval. Right: the same at a smaller share of the images, for the first candidates "
        "and random weights."
    )
    recalls = [(one.candidate.name, "", one.recall.estimate) for one in advice.ranking]
    alt = fmt.described("Macro recall of the probe, best first", recalls)
    return Plot("advice", "Macro recall of the probes", caption, _figure(advice), alt)
