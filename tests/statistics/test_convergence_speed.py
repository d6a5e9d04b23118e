import numpy as np
import pytest

from stagetransfer.statistics import convergence


def test_convergence_is_the_first_validation_at_95_percent_of_the_last_value():
    found = convergence([10, 20, 40, 80], [0.5, 0.75, 0.77, 0.8])
    assert (found.final, found.target, found.batches) == (0.8, pytest.approx(0.76), 40)


def test_a_value_that_falls_again_counts():
    assert convergence([1, 2, 3], [0.9, 0.6, 0.8]).batches == 1


def test_a_value_equal_to_the_target_counts():
    assert convergence([1, 2, 3], [0.25, 0.5, 1.0], share=0.5).batches == 2
    assert convergence([1, 2, 3], [0.25, 0.5, 1.0], share=1).batches == 3
    assert convergence([7], [0.6]).batches == 7


@pytest.mark.parametrize(
    ("batches", "values", "share"),
    [
        ([], [], 0.95),
        ([1, 2], [0.5], 0.95),
        ([2, 1], [0.5, 0.6], 0.95),
        ([1, 2], [0.5, np.nan], 0.95),
        ([1, 2], [0.5, 0.6], 0),
    ],
)
def test_bad_arrays(batches, values, share):
    with pytest.raises(ValueError, match="must"):
        convergence(batches, values, share)
