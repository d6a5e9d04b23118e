"""Whether the target stage of a run learned anything: only runs that did are compared."""

from collections import Counter
from collections.abc import Sequence

from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.run import AT_CHANCE, CONSTANT, DIVERGED, LEARNED, Run


def judge(run: Run) -> str:
    """Return LEARNED, or how the target stage of a run on one test set failed.

    A run that is above chance on the validation or on the test images has learned: few validation
    images may be unable to show what many test images show. Runs of earlier versions recorded no
    interval on validation images, so it is computed from their validation.csv.
    """
    health, chance = run.health, 1 / len(run.classes)
    if health.get("verdict") == DIVERGED:
        return DIVERGED
    constant = (run.predicted == run.predicted[0]).all()
    if not constant and run.recall_interval()[1] > chance:
        return LEARNED
    low = health.get("low")
    if (file := run.folder / "validation.csv").is_file():
        validated = read_predictions(file, run.classes, run.num_validation)
        constant = constant and (validated.predicted == run.predicted[0]).all()
        low = validated.recall_interval()[1] if low is None else low
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
