"""The loggers of a stage: placeholders, kept curves, and a user's own."""

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.pipeline.loggers import stage_loggers


class Recorder(DummyLogger):
    """A logger that keeps its keywords."""

    def __init__(self, name, tags):
        super().__init__()
        self.given = name, tags


@pytest.fixture
def make(compose_config, tmp_path):
    def loggers(*overrides, resuming=False):
        config = validate_config(compose_config("+experiment=scratch", *overrides))
        return stage_loggers(config.logger, tmp_path, "2-texture", "run-1", resuming=resuming)

    return loggers


def test_tensorboard_and_csv_are_the_default(make, tmp_path):
    tensorboard, csv = make()
    assert isinstance(tensorboard, TensorBoardLogger)
    assert tensorboard.log_dir == str(tmp_path / "tensorboard" / "2-texture")
    assert isinstance(csv, CSVLogger)
    assert csv.log_dir == str(tmp_path / "logs" / "2-texture")


def test_tensorboard_does_not_begin_with_the_number_of_the_epoch(make, tmp_path):
    for logger in make():
        logger.log_metrics({"epoch": 0.0, "train/cross_entropy": 2.0}, step=1)
        logger.save()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "2-texture"))
    assert events.Reload().Tags()["scalars"] == ["train/cross_entropy"]
    assert "epoch" in (tmp_path / "logs" / "2-texture" / "metrics.csv").read_text()


def test_placeholders_are_filled_in_at_any_depth(make, tmp_path):
    target = f"{Recorder.__module__}.{Recorder.__qualname__}"
    (*_, own) = make(
        f"+logger.own._target_={target}", "+logger.own.name='{run} {stage}'",
        "+logger.own.tags={at:'{folder}',number:3}",
    )  # fmt: skip
    assert own.given == ("run-1 2-texture", {"at": str(tmp_path), "number": 3})


def test_a_csv_logger_of_the_users_own_needs_no_version(make, tmp_path):
    words = ("+logger.own._target_=pytorch_lightning.loggers.CSVLogger",)
    (*_, own) = make(*words, f"+logger.own.save_dir={tmp_path}")
    assert own.log_dir == str(tmp_path / "lightning_logs" / "version_0")


def test_a_resumed_training_keeps_the_curves_of_the_interrupted_one(make, tmp_path):
    folder = tmp_path / "logs" / "2-texture"
    for number in (1, 2):
        _, csv = make(resuming=number > 1)
        csv.log_metrics({"validation/accuracy": 0.1 * number}, step=number)
        csv.save()
    assert sorted(path.name for path in folder.iterdir()) == ["metrics-1.csv", "metrics.csv"]
    assert "0.1" in (folder / "metrics-1.csv").read_text()
    assert "0.2" in (folder / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ("epoch,step\n0,3\n1,7\n", "epoch,step\n0,3\n1,7\n"),
        ("epoch,step\n0,3\n1,", "epoch,step\n0,3\n"),
        ("epoch,step\n0", None),
        ("epo", None),
        ("", None),
    ],
)
def test_a_line_that_a_killed_process_has_cut_is_left_out(make, tmp_path, cut, kept):
    folder = tmp_path / "logs" / "2-texture"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(cut)
    make(resuming=True)
    earlier = folder / "metrics-1.csv"
    assert (earlier.read_text() if earlier.exists() else None) == kept
    assert not (folder / "metrics.csv").exists()


def test_a_training_from_the_start_drops_earlier_curves(make, tmp_path):
    folder = tmp_path / "logs" / "2-texture"
    folder.mkdir(parents=True)
    for name in ("metrics.csv", "metrics-1.csv"):
        (folder / name).write_text("step\n1\n")
    make()
    assert not list(folder.glob("metrics*"))


def test_a_logger_that_does_not_exist(make):
    with pytest.raises(UserError, match=r"logger\.own: "):
        make("+logger.own._target_=no.such.Logger")


class Missing:
    """A logger whose package is not installed."""

    def __init__(self):
        raise ModuleNotFoundError("No module named 'elsewhere'")


def test_a_logger_whose_package_is_missing_gets_one_line(make):
    target = f"{Missing.__module__}.{Missing.__qualname__}"
    with pytest.raises(UserError, match=r"logger\.own: .*elsewhere"):
        make(f"+logger.own._target_={target}")
