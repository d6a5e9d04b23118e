import ast
from pathlib import Path

import pytest

import stagetransfer.statistics
from stagetransfer.statistics import NATS, Interval, sentence

NAN = float("nan")


def result(estimate=0.004, low=-0.009, high=0.017, p_value=0.5, seeds=3):
    return Interval(estimate, low, high, p_value, seeds, seeds > 1)


@pytest.mark.parametrize(
    ("found", "options", "expected"),
    [
        (result(), {}, "+0.4 points [-0.9, 1.7], no evidence of a difference"),
        (
            result(-0.021, -0.033, -0.0104, 0.004),
            {},
            "-2.1 points [-3.3, -1.0], evidence of a difference (p = 0.004)",
        ),
        (
            result(0.02, 0.01, 0.03, 0.0005),
            {"p_value": 0.0009},
            "+2.0 points [1.0, 3.0], evidence of a difference (p < 0.001)",
        ),
        (
            result(0.02, 0.001, 0.039, 0.04),
            {"p_value": 0.24},
            "+2.0 points [0.1, 3.9], no evidence of a difference after Holm's correction "
            "(p = 0.24)",
        ),
        (
            result(-0.0001, -0.0002, 0.0, 1.0),
            {"unit": NATS},
            "+0.000 nats [0.000, 0.000], no evidence of a difference",
        ),
        (
            result(seeds=1),
            {},
            "+0.4 points [-0.9, 1.7], no evidence of a difference; one seed only, so the "
            "variance over seeds is unknown",
        ),
        (result(NAN, NAN, NAN, NAN), {}, "not defined on this test set"),
    ],
)
def test_sentence(found, options, expected):
    assert sentence("two_stage", "natural", found, **options) == f"two_stage - natural: {expected}"


@pytest.mark.parametrize("p_value", [0.001, 0.5])
def test_with_too_few_groups_the_sentence_draws_no_conclusion(p_value):
    text = sentence("a", "b", result(p_value=p_value), few="groups in HCM (6)")
    assert text == (
        "a - b: +0.4 points [-0.9, 1.7]; too few groups in HCM (6) to say whether this is a "
        "difference"
    )


def test_a_refused_comparison_has_no_numbers():
    refusal = "b did not learn in 3 of 3 runs (constant output)"
    assert sentence("a", "b", result(), refusal=refusal) == f"a - b: not compared: {refusal}"


def test_statistics_imports_no_other_part_of_the_package():
    allowed = {"__future__", "collections", "dataclasses", "itertools", "typing"}
    allowed |= {"numpy", "scipy", "sklearn"}
    for file in Path(stagetransfer.statistics.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            else:
                continue
            for name in names:
                ours = name.startswith("stagetransfer.statistics")
                assert ours or name.split(".")[0] in allowed, f"{file.name} imports {name}"
