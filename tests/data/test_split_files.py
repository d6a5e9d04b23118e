"""Split files: written and read, checked against the data, part of the hash."""

import numpy as np
import pytest
from typer.testing import CliRunner

from stagetransfer.cli.app import app
from stagetransfer.data import Samples, StageSettings, TargetDataModule
from stagetransfer.data.split_files import read_split_file, write_split_file
from stagetransfer.errors import UserError

IDS = ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png")
GROUPS = ("p", "q", "r", "p", "q", "r")
FOLDS = (0, 1, 2, 0, 1, 2)


def samples(groups=GROUPS):
    return Samples(
        images=np.zeros((6, 8, 8), np.uint8),
        ids=IDS,
        labels=np.array([0, 0, 0, 1, 1, 1]),
        classes=("a", "b"),
        groups=groups,
        splits=("train",) * 5 + ("test",),
    )


def written(tmp_path, text):
    path = tmp_path / "splits.csv"
    path.write_text(text)
    return path


def table(**changes):
    """A file of folds as text; `changes` are cells by the row's number: r2="a/9.png,r,2"."""
    rows = [f"{n},{g},{f}" for n, g, f in zip(IDS, GROUPS, FOLDS, strict=True)]
    for key, row in changes.items():
        rows[int(key[1:])] = row
    return "\n".join(["id,group,fold", *(row for row in rows if row), ""])


def test_a_written_file_is_read(tmp_path):
    path = tmp_path / "folds.csv"
    write_split_file(path, samples(), "fold", FOLDS)
    write_split_file(path, samples(), "fold", FOLDS)  # the same again is no conflict
    file = read_split_file(path)
    assert file.folds == 3
    assert file.apply(samples(), 1).splits == ("train", "test", "train") * 2
    with pytest.raises(UserError, match=r"folds\.csv: exists with other content"):
        write_split_file(path, samples(), "fold", FOLDS[::-1])


def test_a_fixed_split_replaces_the_splits_of_the_data(tmp_path):
    names = ("train", "val", "test") * 2
    rows = "".join(f"{n},{s}\n" for n, s in zip(IDS, names, strict=True))
    file = read_split_file(written(tmp_path, f"file,split\n{rows}"))
    assert file.folds is None
    assert file.apply(samples(), None).splits == ("train", "validation", "test") * 2


def test_data_without_groups_get_those_of_the_file(tmp_path):
    file = read_split_file(written(tmp_path, table()))
    assert file.apply(samples(groups=None), 0).groups == GROUPS


def test_the_record_depends_on_the_rows_and_not_on_their_order(tmp_path):
    lines = table().splitlines()
    shuffled = "\r\n".join([lines[0], *lines[:0:-1]])
    first = read_split_file(written(tmp_path, table())).record(0)
    assert read_split_file(written(tmp_path, shuffled)).record(0) == first
    swapped = table(r0="a/1.png,p,1", r3="b/1.png,p,1", r1="a/2.png,q,0", r4="b/2.png,q,0")
    assert read_split_file(written(tmp_path, swapped)).record(0)["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table(r2="a/9.png,r,2"), r"not in the data: 1 of its images, such as 'a/9\.png'"),
        (table(r2=""), r"without a row: 1 images of the data, such as 'a/3\.png'"),
        (table(r3="b/1.png,p,1"), r"patient\) 'p' is in fold 0 and in fold 1"),
        (table(r2="a/3.png,q,1"), r"a/3\.png is of group 'q', but of 'r' in the data"),
        (table(r2="a/2.png,q,1"), r"line 4: a/2\.png is in an earlier line"),
        (table(r2="a/3.png,r,x"), r"line 4: fold 'x' is not a whole number"),
        (table(r2="a/3.png,r,-1"), r"line 4: fold '-1' is not a whole number"),
        (table(r2="a/3.png,r,3", r5="b/3.png,r,3"), "no image is in fold 2"),
        (table(r2=f"a/3.png,r,{10**11}", r5=f"b/3.png,r,{10**11}"), "no image is in fold 2"),
        (table(r2="a/3.png,,2"), "line 4: no group; fill the cell"),
        (table(r0="a/1.png,,0"), r"a/1\.png has no group; fill the cell"),
        ("id,fold\n", "names no image"),
        ("id,fold\na/1.png,0\n", "all images are in fold 0"),
        ("id,split\na/1.png,test\n", "no image is in train"),
        ("id,split\na/1.png,tset\n", "line 2: split 'tset' is none of train"),
        ("id,split,fold\na/1.png,test,0\n", "both columns 'fold' and 'split'"),
        ("name,split\na/1.png,test\n", "no column 'id' or 'file'; there are name, split"),
    ],
)
def test_a_file_that_does_not_fit_the_data_gets_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_split_file(written(tmp_path, text)).apply(samples(), 0)
    assert "\n" not in str(caught.value)
    assert "splits.csv" in str(caught.value)


def test_a_group_of_the_data_is_not_divided_by_a_file_without_groups(tmp_path):
    rows = "".join(f"{n},{f}\n" for n, f in zip(IDS, (0, 1, 2, 1, 0, 2), strict=True))
    with pytest.raises(UserError, match=r"'p' is in fold 0 and in fold 1"):
        read_split_file(written(tmp_path, f"id,fold\n{rows}")).apply(samples(), 2)


def test_a_class_without_training_images_is_named(tmp_path):
    rows = "".join(f"{n},{f}\n" for n, f in zip(IDS, (1, 1, 1, 0, 0, 0), strict=True))
    file = read_split_file(written(tmp_path, f"id,fold\n{rows}"))
    with pytest.raises(UserError, match="class b has no training image outside fold 0"):
        file.apply(samples(groups=None), 0)


def test_a_missing_file_says_how_to_write_it(tmp_path):
    with pytest.raises(UserError, match="no such table; write it with stagetransfer split"):
        read_split_file(tmp_path / "none.csv")


@pytest.fixture(scope="module")
def split_file(tmp_path_factory):
    out = tmp_path_factory.mktemp("splits") / "folds.csv"
    args = ["split", "embedded", "--option", "scale=0.2", "--folds", "3", "--out", str(out)]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return out


def target(**settings):
    stage = StageSettings("target")
    return TargetDataModule(stage, layout="embedded", options={"scale": 0.2}, **settings).read()


def test_the_folds_of_a_data_module_are_its_test_sets(split_file):
    modules = [target(split_file=split_file, fold=fold) for fold in range(3)]
    tested = np.concatenate([module.rows["test"] for module in modules])
    assert sorted(tested) == list(range(len(modules[0].samples)))  # each image once
    for module in modules:
        used = np.concatenate(list(module.rows.values()))
        assert sorted(used) == sorted(tested)
        group = np.array(module.samples.groups)
        sides = [{*group[rows]} for rows in module.rows.values()]
        assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


def test_the_identity_depends_on_fold_and_content_but_not_on_the_path(split_file, tmp_path):
    plain, first = target(), target(split_file=split_file, fold=0)
    assert plain.identity()["splits"] is None
    assert plain.fingerprint == first.fingerprint
    copy = tmp_path / "copy.csv"
    copy.write_text(split_file.read_text())
    assert target(split_file=copy, fold=0).identity() == first.identity()
    assert target(split_file=split_file, fold=1).identity() != first.identity()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 0}, "Set domain.target.split_file"),
        ({"split_file": ...}, "fold is required: .* the folds 0 to 2"),
        ({"split_file": ..., "fold": "b"}, r"domain\.target\.fold: .*'b'"),
        ({"split_file": ..., "fold": 1.0}, r"domain\.target\.fold: .*'1\.0'"),
        ({"split_file": ..., "fold": 3}, r"domain\.target\.fold=3: .* the folds 0 to 2"),
    ],
)
def test_fold_and_file_go_together(split_file, settings, message):
    given = {key: split_file if value is ... else value for key, value in settings.items()}
    with pytest.raises(UserError, match=message):
        target(**given)


def test_a_hold_out_is_written_and_used(tmp_path):
    out = tmp_path / "hold.csv"
    options = ["--option", "scale=0.2", "--test", "0.3", "--validation", "0.2"]
    result = CliRunner().invoke(app, ["split", "embedded", *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    module = target(split_file=out)
    assert module.count("test") / len(module.samples) == pytest.approx(0.3, abs=0.06)
    assert module.split_file_record is not None
    assert module.split_file_record["fold"] is None
    with pytest.raises(UserError, match="has no folds but one split"):
        target(split_file=out, fold=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embedded"], "give --folds K"),
        (["embedded", "--folds", "3", "--test", "0.2"], "give --folds K"),
        (["embedded", "--folds", "3", "--validation", "0.2"], "--validation 0.2: it needs --test"),
        (["embedded", "data", "--folds", "3"], "leave data out"),
        (["embedded", "--folds", "3", "--option", "zoom=2"], "there are seed, scale, size"),
        (["embedded", "--folds", "3", "--option", "zoom"], "must be KEY=VALUE"),
        (["csv", "--folds", "3"], "give the data set's folder too"),
        (["cvs", "data", "--folds", "3"], "cvs: no layout; there are embedded, folder"),
    ],
)
def test_the_command_refuses_wrong_arguments(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["split", *words])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())
