"""Runs whose training sets were made worse on purpose: the share r of what is left in each sense.

A report shows results against r, the share of the training images. Runs that differ in the
target's `label_noise` or `long_tail` are shown against a share r in the same way.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from stagetransfer.errors import UserError
from stagetransfer.runs.comparability import AnyRun
from stagetransfer.runs.run import Run, UnfinishedRun


class Share(NamedTuple):
    """What r is a share of; `setting` is that of the target's domain, empty for the ratio."""

    setting: str = ""
    of: str = "training images"
    meaning: str = ""


RATIO = Share()
LABELS = Share(
    "label_noise", "right training labels",
    "r is the share of the training images with a right label, 1 - label_noise.",
)  # fmt: skip
TAIL = Share(
    "long_tail", "training images of the rarest class",
    "r is long_tail, the share of its training images that the rarest class keeps; the shares of "
    "the other classes lie between it and 1.",
)  # fmt: skip
SHARES = (LABELS, TAIL)


def by_share(
    runs: Sequence[Run], unfinished: Sequence[UnfinishedRun]
) -> tuple[
    tuple[list[Run], list[UnfinishedRun]],
    dict[Share, tuple[list[Run], list[UnfinishedRun]]],
    list[str],
]:
    """Return the best training sets' runs, the runs of each share that varies, and what is left.

    The first are those with the greatest r in all senses, whatever their ratio. The runs of a share
    have its r in the place of their ratio; they have the greatest ratio, and the greatest r in all
    other senses. What has neither place is named in the third result. UserError if no run has the
    greatest r in all senses.
    """
    most = {of: max(_shares(run)[of] for run in runs) for of in SHARES}
    varying = [of for of in SHARES if any(_shares(run)[of] < most[of] for run in runs)]

    def worse(run: Run | UnfinishedRun) -> list[Share]:
        return [of for of in varying if _shares(run)[of] < most[of]]

    first = [run for run in runs if not worse(run)]
    if not first:
        names = " and ".join(of.setting for of in varying)
        raise UserError(
            f"{runs[0].name}: every run has {names}, and none is without both. Choose runs with "
            f"--only domain.{runs[0].chain[-1]}.{varying[0].setting}=..."
        )
    ratio = max(run.ratio for run in first)
    found = {}
    for of in varying:
        own = [run for run in runs if worse(run) in ([], [of]) and run.ratio == ratio]
        also = [run for run in unfinished if worse(run) == [of] and _ratio(run) == ratio]
        found[of] = [_at(run, of) for run in own], [_at(run, of) for run in also]
    every: list[Run | UnfinishedRun] = [*runs, *unfinished]
    left = [
        run.folder.name
        for run in every
        if len(worse(run)) > 1 or (worse(run) and _ratio(run) != ratio)
    ]
    return (first, [run for run in unfinished if not worse(run)]), found, left


def is_whole(run: Run) -> bool:
    """Return whether a run was trained on all training images, as they are and as labelled."""
    planted = run.config.get(f"domain.{run.chain[-1]}.confounder")
    unchanged = run.ratio == 1 and not planted and {*_shares(run).values()} == {1.0}
    return unchanged and trained_on_labels(run)


def trained_on_labels(run: Run) -> bool:
    """Return whether a run was trained here and on labels: not imported, and without teachers."""
    return not (run.config.get("imported") or run.config.get("teacher"))


def _ratio(run: Run | UnfinishedRun) -> float | None:
    return run.place[1] if run.place else None


def _key(run: Run | UnfinishedRun, of: Share) -> str:
    chain = run.chain if isinstance(run, Run) else run.config.get("chain") or ("target",)
    return f"domain.{chain[-1]}.{of.setting}"


def _shares(run: Run | UnfinishedRun) -> Mapping[Share, float]:
    """Return r in each sense; 1 where the config of a run says nothing."""
    found = dict.fromkeys(SHARES, 1.0)
    with suppress(TypeError, ValueError):
        found[LABELS] = round(1 - float(run.config.get(_key(run, LABELS)) or 0), 9)
    with suppress(TypeError, ValueError):
        found[TAIL] = round(float(run.config.get(_key(run, TAIL)) or 1), 9)
    return found


def _at(run: AnyRun, of: Share) -> AnyRun:
    """Return the run with its share in place of its ratio, and of the setting."""
    share, config = _shares(run)[of], {k: v for k, v in run.config.items() if k != _key(run, of)}
    if isinstance(run, Run):
        return replace(run, ratio=share, config=config)
    place = run.place and (run.place[0], share, run.place[2])
    return replace(run, place=place, config=config)
