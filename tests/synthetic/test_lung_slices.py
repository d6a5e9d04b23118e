"""Whole slices of the phantom: ground truth, seed and densities."""

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from stagetransfer.cli.app import app
from stagetransfer.errors import UserError
from stagetransfer.inference.lung_mask import find_lungs
from stagetransfer.synthetic.lung import CLASSES, draw_patient
from stagetransfer.synthetic.lung_slices import lung_slice, patients_of_test

SIZE = 256


@pytest.fixture(scope="module")
def one():
    return lung_slice(0, 70, size=SIZE)


def test_a_slice_depends_on_seed_patient_and_number(one):
    np.testing.assert_array_equal(lung_slice(0, 70, size=SIZE).hu, one.hu)
    for other in (lung_slice(1, 70, size=SIZE), lung_slice(0, 70, 1, size=SIZE)):
        assert (other.hu != one.hu).mean() > 0.5
    assert one.spacing == draw_patient(0, 70).view / 32
    assert one.patient == "p070"


def test_every_class_is_present_and_only_inside_the_lungs(one):
    assert set(np.unique(one.truth)) == {-1, *range(len(CLASSES))}
    shares = np.bincount(one.truth[one.truth >= 0]) / (one.truth >= 0).sum()
    assert shares.min() > 0.03
    inside = one.truth >= 0
    assert 0.1 < inside.mean() < 0.4
    assert not inside[:, SIZE // 2].any()  # the mediastinum
    found = find_lungs([(0, one.hu.astype(float))], (one.spacing, one.spacing)).mask(0)
    assert not (found & ~inside).sum() > 0.05 * inside.sum()


def test_densities_are_in_the_order_of_the_patterns(one):
    mean = {name: one.hu[one.truth == i].mean() for i, name in enumerate(CLASSES)}
    assert mean["EMP"] < mean["NOR"] < mean["GGO"] < mean["CON"]


def test_test_patients_are_those_of_the_test_set():
    numbers = patients_of_test(60)
    assert numbers == list(range(58, 118))
    assert patients_of_test(2) == [58, 117]


def test_the_command_writes_slices_and_their_ground_truth(tmp_path):
    words = ["phantom", str(tmp_path / "p"), "--patients", "1", "--slices", "2", "--size", "256"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    files = sorted(
        path.relative_to(tmp_path / "p").as_posix() for path in tmp_path.rglob("*.nii.gz")
    )
    assert files == ["lungs/p058.nii.gz", "slices/p058.nii.gz", "truth/p058.nii.gz"]
    expected = lung_slice(0, 58, 1, size=SIZE)
    loaded = {kind: nib.load(tmp_path / "p" / kind / "p058.nii.gz") for kind in ("slices", "truth")}
    assert loaded["slices"].header.get_zooms()[:2] == pytest.approx([expected.spacing] * 2)
    np.testing.assert_array_equal(loaded["slices"].dataobj[:, :, 1].T, expected.hu)
    np.testing.assert_array_equal(loaded["truth"].dataobj[:, :, 1].T, expected.truth + 1)
    assert (tmp_path / "p" / "labels.csv").read_text().splitlines()[:2] == ["value,label", "1,CON"]
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, UserError)
    assert "already exists" in str(again.exception)
