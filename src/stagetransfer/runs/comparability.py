"""Which runs can be compared: those with the same test set, and with one recipe per condition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from stagetransfer.config.identity import role_of
from stagetransfer.errors import UserError
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.tuning_depth import depth_settings, split_depth, tuned_depth

AnyRun = TypeVar("AnyRun", Run, UnfinishedRun)


def runs_with(runs: Sequence[AnyRun], only: Sequence[str]) -> list[AnyRun]:
    """Return the runs whose config.yaml has all settings of `only`, each "key=value"."""
    chosen = list(runs)
    for wanted in only:
        key, equals, value = wanted.partition("=")
        if not equals:
            raise UserError(f"--only {wanted}: not KEY=VALUE. Write it as in recipe.epochs=9.")
        chosen = [run for run in chosen if _as_text(run.config.get(key)) == value]
    return chosen


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that all runs can be compared in one report.

    Raises:
        UserError: two runs cannot be compared; the message names both and the reason.
    """
    for run in runs[1:]:
        _check_same_test_set(runs[0], run)
    of_place: dict[tuple[str, float, int], Run] = {}
    of_condition: dict[str, Run] = {}
    for run in runs:
        check_unique(of_place.setdefault(run.place, run), run, "condition, ratio and seed")
        other = of_condition.setdefault(run.condition, run)
        check_same_recipe(other, run, ignore_place=True)


def check_same_recipe(
    a: Run, b: Run, *, ignore_place: bool = False, ignore: Collection[str] = ()
) -> None:
    """Check that two runs of one condition were trained alike; the options are as in `differences`.

    Raises:
        UserError: their chains or their settings differ.
    """
    both = f"{a.name} and {b.name}: one condition, but"
    if a.chain != b.chain:
        raise UserError(
            f"{both} the chains {'-'.join(a.chain)} and {'-'.join(b.chain)}. Give one of them "
            "another condition=."
        )
    if unlike := differences(a, b, ignore_place=ignore_place, ignore=ignore):
        raise UserError(
            f"{both} they differ in {_describe(unlike)}; they must not be averaged. Select one of "
            "them with --only KEY=VALUE, or give one another condition=."
        )


def check_unique(a: Run, b: Run, shared: str) -> None:
    """Check that `a` and `b` are one run; two runs must not have the same place.

    Args:
        shared: what both have in common, for the message.

    Raises:
        UserError: they are two runs.
    """
    if a is b:
        return
    text = _describe(differences(a, b))
    if not text:  # their stages then differ in data or in versions
        pairs = zip(a.stages, b.stages, strict=False)
        names = [str(x["name"]) for x, y in pairs if x.get("key") != y.get("key")]
        text = f"the keys of stage {', '.join(names)}" if names else "their hash"
    raise UserError(
        f"{a.name} and {b.name}: the same {shared}, but they differ in {text}. Give one of them "
        "alone, or select one with --only KEY=VALUE."
    )


def differences(
    a: Run,
    b: Run,
    *,
    ignore_place: bool = False,
    ignore: Collection[str] = (),
) -> dict[str, tuple[Any, Any]]:
    """Return the config keys in which two runs differ, with both values.

    Settings of a domain or stage that only one of the chains has do not count. The settings that
    decide the tuning depth are summed up as "tuned layers", unless both runs belong to one
    condition whose name holds the depth.

    Args:
        ignore_place: whether a run's place in a sweep (ratio and seeds) does not count.
        ignore: further keys that do not count.
    """
    # The chain is compared by itself; a bare "stage" is an empty mapping.
    ignored = {"chain", "stage", *ignore}
    ignored |= {*depth_settings(a.chain[-1]), *depth_settings(b.chain[-1])}
    ignored_roles = {"idle", "place"} if ignore_place else {"idle"}
    shared_stages = {*a.chain} & {*b.chain}
    result = {}
    for key in dict.fromkeys([*a.config, *b.config]):
        values = a.config.get(key), b.config.get(key)
        if values[0] == values[1] or key in ignored or role_of(key) in ignored_roles:
            continue
        if key.startswith("transfer.") and 1 in (len(a.chain), len(b.chain)):
            continue
        if key.startswith(("domain.", "stage.")) and key.split(".")[1] not in shared_stages:
            continue
        result[key] = values
    depths = tuned_depth(a), tuned_depth(b)
    named = split_depth(a.condition)[0] == split_depth(b.condition)[0]
    if None not in depths and depths[0] != depths[1] and not named:
        result["tuned layers"] = depths
    return result


def check_same_data(a: Run, b: Run) -> None:
    """Check that the classes and the data of the target domain are the same.

    Raises:
        UserError: they differ.
    """
    if a.classes != b.classes:
        raise _incomparable(a, b, f"different classes ({_few(a.classes)} and {_few(b.classes)})")
    if a.fingerprint != b.fingerprint:
        fingerprints = f"(fingerprints {a.fingerprint} and {b.fingerprint})"
        raise _incomparable(a, b, f"the data of their target domain differ {fingerprints}")


def _check_same_test_set(a: Run, b: Run) -> None:
    if a.splits != b.splits:
        raise UserError(
            f"{a.name} and {b.name} cannot be compared: their split files or folds differ, or only "
            f"one has any. Report them separately, by --only domain.{a.chain[-1]}.split_file=... "
            "(null: none)."
        )
    if a.classes == b.classes:
        if unshared := {*a.ids} ^ {*b.ids}:
            raise _incomparable(
                a,
                b,
                f"different test sets ({len(a.ids)} and {len(b.ids)} images; {len(unshared)} "
                f"belong to only one of them, such as {min(unshared)!r})",
            )
        for what, of_a, of_b in (
            ("labels", a.labels.tolist(), b.labels.tolist()),
            ("groups", a.groups or [""] * len(a.ids), b.groups or [""] * len(b.ids)),
        ):
            values = dict(zip(b.ids, of_b, strict=True))
            unlike = [name for name, x in zip(a.ids, of_a, strict=True) if x != values[name]]
            if unlike:
                example = f"{len(unlike)} test images, such as {unlike[0]!r}"
                raise _incomparable(a, b, f"different {what} of {example}")
    check_same_data(a, b)


def _incomparable(a: Run, b: Run, reason: str) -> UserError:
    return UserError(f"{a.name} and {b.name} cannot be compared: {reason}. Report them separately.")


def _describe(unlike: Mapping[str, tuple[Any, Any]]) -> str:
    """Return up to six differences as text."""
    shown = list(unlike.items())[:6]
    text = ", ".join(f"{key} ({_as_text(x)} and {_as_text(y)})" for key, (x, y) in shown)
    return text + (f" and {len(unlike) - 6} more" if len(unlike) > 6 else "")


def _as_text(value: Any) -> str:
    return "null" if value is None else str(value)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
