"""Which runs can be compared: those with the same test set, and with one recipe per condition."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from stagetransfer.config.identity import role_of
from stagetransfer.errors import UserError
from stagetransfer.runs.run import Replicate, Run, UnfinishedRun
from stagetransfer.runs.tuning_depth import depth_settings, split_depth, tuned_depth

AnyRun = TypeVar("AnyRun", Run, UnfinishedRun)


def runs_with(runs: Sequence[AnyRun], only: Sequence[str]) -> list[AnyRun]:
    """Return the runs whose config.yaml has all settings of `only`, each "key=value"."""
    chosen = list(runs)
    for wanted in only:
        key, equals, value = wanted.partition("=")
        if not equals:
            raise UserError(f"--only {wanted}: not KEY=VALUE. Write it as in recipe.epochs=9.")
        chosen = [run for run in chosen if _is_written(run.config.get(key), value)]
    return chosen


def _is_written(value: Any, text: str) -> bool:
    """Return whether a text is this value, as a message shows it or as a config file has it."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        read = text
    same_kind = isinstance(read, bool) == isinstance(value, bool)
    return _as_text(value) == text or (same_kind and bool(read == value))


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise a UserError that names two runs and the reason if they cannot be in one report."""
    for run in runs[1:]:
        _check_same_test_set(runs[0], run)
    of_place: dict[tuple[str, float, Replicate], Run] = {}
    of_condition: dict[str, Run] = {}
    for run in runs:
        place = run.condition, run.ratio, run.replicate
        check_unique(of_place.setdefault(place, run), run, "condition, ratio and seeds")
        check_same_recipe(of_condition.setdefault(run.condition, run), run, ignore_place=True)


def check_same_recipe(a: Run, b: Run, *, ignore_place: bool = False) -> None:
    """Raise a UserError if two runs of one condition differ in their chains or by `differences`."""
    both = f"{a.name} and {b.name}: one condition, but"
    if a.chain != b.chain:
        raise UserError(
            f"{both} the chains {'-'.join(a.chain)} and {'-'.join(b.chain)}. Give one of them "
            "another condition=."
        )
    if unlike := differences(a, b, ignore_place=ignore_place):
        raise UserError(
            f"{both} they differ in {_describe(unlike)}; they must not be averaged. Select one of "
            "them with --only KEY=VALUE, or give one another condition=."
        )


def check_unique(a: Run, b: Run, shared: str) -> None:
    """Raise a UserError if `a` and `b` are two runs, which have in common what `shared` says."""
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


def differences(a: Run, b: Run, *, ignore_place: bool = False) -> dict[str, tuple[Any, Any]]:
    """Return the config keys in which two runs differ, with both values.

    Settings of a domain or stage that only one of the chains has do not count, nor do, with
    `ignore_place`, a run's ratio and seeds. The settings that decide the tuning depth are summed up
    as "tuned layers", unless both runs belong to one condition whose name holds the depth.
    """
    # The chain is compared by itself; a bare "stage" is an empty mapping.
    ignored = {"chain", "stage", *depth_settings(a.chain[-1], b.chain[-1])}
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
    """Raise a UserError if the classes or the data of the target domain differ."""
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
            only_one_has = f"{len(unshared)} belong to only one of them, such as {min(unshared)!r}"
            sizes = f"{len(a.ids)} and {len(b.ids)} images"
            raise _incomparable(a, b, f"different test sets ({sizes}; {only_one_has})")
        for what, of_a, of_b in (
            ("labels", a.labels.tolist(), b.labels.tolist()),
            ("groups", a.groups or [""] * len(a.ids), b.groups or [""] * len(b.ids)),
        ):
            values = dict(zip(b.ids, of_b, strict=True))
            if unlike := [name for name, x in zip(a.ids, of_a, strict=True) if x != values[name]]:
                example = f"{len(unlike)} test images, such as {unlike[0]!r}"
                raise _incomparable(a, b, f"different {what} of {example}")
    check_same_data(a, b)


def _incomparable(a: Run, b: Run, reason: str) -> UserError:
    keys = [key for key in differences(a, b, ignore_place=True) if key.startswith("domain.")]
    how = f", by --only {keys[0]}={_as_text(a.config.get(keys[0]))}" if keys else ""
    return UserError(
        f"{a.name} and {b.name} cannot be compared: {reason}. Report them separately{how}."
    )


def _describe(unlike: Mapping[str, tuple[Any, Any]]) -> str:
    """Return up to six differences as text."""
    texts = [f"{key} ({_as_text(x)} and {_as_text(y)})" for key, (x, y) in unlike.items()]
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")


def _as_text(value: Any) -> str:
    return "null" if value is None else str(value)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
