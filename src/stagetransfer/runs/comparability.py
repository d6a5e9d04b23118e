"""Which runs may stand in one report: those judged on the same images, a recipe a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from stagetransfer.errors import UserError
from stagetransfer.runs.reader import Run, Unfinished
from stagetransfer.runs.tuning_depth import depth, knobs, parted

# Keys of config.yaml that decide no result, and those that are a run's place in the sweep.
IDLE = (
    *("paths.", "hydra.", "force", "condition"),
    *("trainer.accelerator", "trainer.deterministic", "callbacks", "trainer.channels_last"),
    *("trainer.frozen_features_gib", "trainer.winograd", "trainer.keep_memory"),
)
IDLE_ENDS = (
    *(".workers", "memory_limit_gib", ".check_images", ".index"),
    *(".root", ".split_file"),
)
PLACE = ("ratio", "seed", "source_seed")

R = TypeVar("R", Run, Unfinished)


def select(runs: Sequence[R], only: Sequence[str]) -> list[R]:
    """The runs whose config.yaml has all of `only`, each "key=value"."""
    chosen = list(runs)
    for wanted in only:
        key, equals, value = wanted.partition("=")
        if not equals:
            raise UserError(f"--only {wanted}: must be KEY=VALUE, as in recipe.epochs=9")
        chosen = [run for run in chosen if _said(run.config.get(key)) == value]
    return chosen


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises UserError, which names two runs and says why, if not all can be compared."""
    first = runs[0]
    for run in runs[1:]:
        _check_test_sets(first, run)
    places: dict[tuple[str, float, int], Run] = {}
    conditions: dict[str, Run] = {}
    for run in runs:
        twin = places.setdefault(run.place, run)
        if twin is not run:
            raise UserError(
                f"{twin.name} and {run.name} are the same condition, ratio and seed, but differ in "
                f"{config_words(twin, run, ()) or _keys(twin, run)}; report one of them, or use "
                "--only KEY=VALUE"
            )
        fellow = conditions.setdefault(run.condition, run)
        if fellow.chain != run.chain:
            raise UserError(
                f"{fellow.name} and {run.name} have one condition but the chains "
                f"{'-'.join(fellow.chain)} and {'-'.join(run.chain)}; give one another condition="
            )
        if unlike := config_words(fellow, run, ignore=PLACE):
            raise UserError(
                f"{fellow.name} and {run.name} have one condition but differ in {unlike}; they "
                "must not be averaged: use --only KEY=VALUE, or give one another condition="
            )


def differences(a: Run, b: Run, ignore: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """The config keys in which two runs differ and that decide results; domains that only one
    chain has are left out.

    In place of the keys that freeze layers stands "tuned layers", the depth; but not between the
    depths of one condition, whose names tell it.
    """
    keys = dict.fromkeys([*a.config, *b.config])
    depth_keys = {*knobs(a.chain[-1]), *knobs(b.chain[-1])}
    result = {}
    for key in keys:
        idle = key.startswith(IDLE) or key.endswith(IDLE_ENDS) or key in ignore
        idle |= key in ("chain", "stage")  # a bare "stage" is an empty one
        idle |= key in depth_keys
        idle |= key.startswith("transfer.") and 1 in (len(a.chain), len(b.chain))
        if key.startswith(("domain.", "stage.")):
            idle |= not {key.split(".")[1]} <= {*a.chain} & {*b.chain}
        values = a.config.get(key), b.config.get(key)
        if not idle and values[0] != values[1]:
            result[key] = values
    depths = depth(a), depth(b)
    told = parted(a.condition)[0] == parted(b.condition)[0]
    if None not in depths and depths[0] != depths[1] and not told:
        result["tuned layers"] = depths
    return result


def _check_test_sets(a: Run, b: Run) -> None:
    both = f"{a.name} and {b.name} can't be compared: "
    advice = "; report them apart"
    if a.splits != b.splits:
        raise UserError(
            f"{both}their split files or folds differ, or only one has any{advice}, by --only "
            f"domain.{a.chain[-1]}.split_file=... (null: none)"
        )
    if a.classes != b.classes:
        raise UserError(f"{both}other classes ({_few(a.classes)} and {_few(b.classes)}){advice}")
    if unshared := {*a.ids} ^ {*b.ids}:
        raise UserError(
            f"{both}other test sets ({len(a.ids)} and {len(b.ids)} images, {len(unshared)} of them "
            f"in one alone, such as {min(unshared)!r}){advice}"
        )
    for what, of_a, of_b in (
        ("labels", a.labels.tolist(), b.labels.tolist()),
        ("groups", a.groups or [""] * len(a.ids), b.groups or [""] * len(b.ids)),
    ):
        named = dict(zip(b.ids, of_b, strict=True))
        unlike = [name for name, value in zip(a.ids, of_a, strict=True) if value != named[name]]
        if unlike:
            raise UserError(
                f"{both}other {what} of {len(unlike)} test images, such as {unlike[0]!r}{advice}"
            )
    if a.fingerprint != b.fingerprint:
        raise UserError(
            f"{both}their target's data differ (fingerprints {a.fingerprint} and "
            f"{b.fingerprint}){advice}"
        )


def config_words(a: Run, b: Run, ignore: Sequence[str]) -> str:
    """The keys in which two configs differ, with their values; "" if in none that decides."""
    unlike = differences(a, b, ignore)
    words = [f"{key} ({_said(x)} and {_said(y)})" for key, (x, y) in list(unlike.items())[:6]]
    more = f" and {len(unlike) - 6} more" if len(unlike) > 6 else ""
    return ", ".join(words) + more


def _said(value: Any) -> str:
    return "null" if value is None else str(value)


def _keys(a: Run, b: Run) -> str:
    """Where the configs are alike: the stages whose keys are not, for other data or versions."""
    pairs = zip(a.stages, b.stages, strict=False)
    names = [str(x["name"]) for x, y in pairs if x.get("key") != y.get("key")]
    return f"the keys of stage {', '.join(names)}" if names else "their hash"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
