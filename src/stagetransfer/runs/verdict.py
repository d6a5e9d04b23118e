"""Whether the target stage of a run learned anything: only runs that did are compared."""

from collections import Counter
from collections.abc import Sequence

from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.run import AT_CHANCE, CONSTANT, DIVERGED, LEARNED, Run
from stagetransfer.statistics import macro_recall_interval
from stagetransfer.statistics.metrics import Integers


def judge(run: Run) -> str:
    """Return LEARNED, or how the target stage of a run on one test set failed.

    A run that is above chance on the validation or on the test images has learned: few validation
    images may be unable to show what many test images show. Runs of earlier versions recorded no
    interval on validation images, so it is computed from their validation.csv.
    """
    health, chance = run.health, 1 / len(run.classes)
    if health.get("verdict") == DIVERGED:
        return DIVERGED
    predicted = run.probabilities.argmax(1)
    constant = (predicted == predicted[0]).all()
    if not constant and _low(run, run.labels, predicted, run.groups) > chance:
        return LEARNED
    low = health.get("low")
    if (file := run.folder / "validation.csv").is_file():
        _, groups, labels, probabilities = read_predictions(file, run.classes, run.num_validation)
        validated = probabilities.argmax(1)
        constant = constant and (validated == predicted[0]).all()
        low = _low(run, labels, validated, groups) if low is None else low
    if constant:
        return CONSTANT
    return LEARNED if low is not None and low > chance else AT_CHANCE


def not_learned(runs: Sequence[Run]) -> str:
    """Return "did not learn in 1 of 3 runs (constant output)"; empty if all runs learned."""
    every = {run.folder: run for run in runs}.values()  # one may be matched with several others
    if not (verdicts := Counter(run.verdict for run in every if not run.learned)):
        return ""
    kinds = [f"{count} {verdict}" for verdict, count in verdicts.items()]
    why = ", ".join(kinds if len(kinds) > 1 else verdicts)
    return f"did not learn in {verdicts.total()} of {len(every)} runs ({why})"


def why_not_compared(*conditions: tuple[str, Sequence[Run]]) -> str:
    """Return why runs are not compared, "scratch did not learn in 3 of 3 runs (constant output)".

    Each condition is a name and its runs. The text is empty if all runs learned.
    """
    found = [(name, not_learned(runs)) for name, runs in conditions]
    return "; ".join(f"{name} {text}" for name, text in found if text)


def _low(run: Run, labels: Integers, predicted: Integers, groups: Sequence[str] | None) -> float:
    return macro_recall_interval(labels, predicted, groups, len(run.classes))[1]
