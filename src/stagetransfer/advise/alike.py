"""How similar the target's and the sources' images are: appearance, and distances of features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.advise.candidates import Candidate
from stagetransfer.advise.probe import reduced
from stagetransfer.config.compose import compose_settings
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError, cause
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.statistics.metrics import Array
from stagetransfer.statistics.two_samples import frechet_distance, two_sample_accuracy

Floats = NDArray[np.float32]
Names = NDArray[np.str_]

MOST = 1000  # images of a set that are looked at
BATCH = 64
HALVES = "two halves of the target"
# From this balanced accuracy on, at most one image in twenty is taken for one of the other set, so
# hardly any image has its like there. The embedded sources have 0.81 to 0.94 against the embedded
# target, by random weights of AlexNet; its own halves have 0.42 to 0.53.
FAR = 0.95


@dataclass(frozen=True)
class SomeImages:
    """Training images of a domain, at most MOST, with features (N, D) of some block."""

    data: DomainDataModule
    features: Floats

    @cached_property
    def units(self) -> Names:
        """The patients of the images (N,); where they are unknown, the images themselves."""
        rows, groups = self.data.rows["train"], self.data.samples.groups
        found = [rows[place] for place in some_positions(self.data)]
        return np.array([str(row) if groups is None else groups[row] for row in found])


def some_positions(data: DomainDataModule) -> list[int]:
    """Return at most MOST positions of training images, evenly spread."""
    count = data.count("train")
    return sorted({*np.linspace(0, count - 1, min(count, MOST)).astype(int).tolist()})


def read_sources(
    candidates: Sequence[Candidate], words: Sequence[str]
) -> tuple[dict[str, DomainDataModule], list[str]]:
    """Return the source domains' data by name, and why some cannot be shown.

    The overrides of train.py in `words` say where the images of each domain are.
    """
    found, left_out = dict[str, DomainDataModule](), list[str]()
    for name, fingerprint in sorted({pair for one in candidates for pair in one.images}):
        try:
            config = compose_settings([*words, f"chain=[{name},target]"])
            data = stage_data(config, config.stages[0])
        except UserError as error:
            left_out.append(f"images of {name}: {cause(error)}")
            continue
        if isinstance(data, DomainDataModule) and data.fingerprint == fingerprint:
            found[name] = data
        else:
            left_out.append(
                f"images of {name}: not those that the stage was trained on, so not compared; add "
                f"the words domain/{name}=... and domain.{name}... of its training"
            )
    return found, left_out


def alike(target: SomeImages, sources: Mapping[str, SomeImages]) -> pd.DataFrame:
    """Return a row for the target, one for two halves of it, and one per source.

    "frechet" and "classifier_accuracy" compare with the target, on the principal components of both
    sets. The two halves hold different patients: they show which values equal images would have.
    """
    features, units = target.features, target.units
    names = np.random.default_rng(0).permutation(np.unique(units))
    half = np.isin(units, names[: len(names) // 2])
    halves = _distances(features[half], units[half], features[~half], units[~half])
    rows: list[dict[str, Any]] = [
        {"images": "target", **appearance(target.data)},
        {"images": HALVES, **halves},
    ]
    for name, source in sources.items():
        between = _distances(features, units, source.features, source.units)
        rows.append({"images": name, **appearance(source.data), **between})
    return pd.DataFrame(rows)


def unlike_all(looks: pd.DataFrame) -> list[str]:
    """Return a line if a classifier tells the target from every source, and not its halves.

    `looks` is that of `alike`. Sources whose images are not known are not in it.
    """
    accuracy = looks.set_index("images")["classifier_accuracy"]
    halves, sources = accuracy[HALVES], accuracy.drop(["target", HALVES])
    if sources.empty or not (sources >= FAR).all() or not halves < FAR:
        return []
    return [
        f"the target is unlike all sources that were compared ({', '.join(sources.index)}): a "
        "linear classifier distinguishes their images from those of the target with a balanced "
        f"accuracy of {sources.min():.2f} or more, but two halves of the target with {halves:.2f}"
    ]


def _distances(a: Floats, units_of_a: Names, b: Floats, units_of_b: Names) -> dict[str, float]:
    if min(len(a), len(b)) < 2:
        return {"frechet": float("nan"), "classifier_accuracy": float("nan")}
    both: Array = reduced(np.concatenate([a, b]))
    first, second = both[: len(a)], both[len(a) :]
    accuracy = two_sample_accuracy(first, second, (units_of_a.tolist(), units_of_b.tolist()))
    return {"frechet": frechet_distance(first, second), "classifier_accuracy": accuracy}


def appearance(data: DomainDataModule) -> dict[str, float]:
    """Return numbers that describe the training images, at the size that the network sees.

    The numbers of images, classes and patients (NaN if unknown); the effective number of classes
    (exponential of the entropy of their shares); mean and standard deviation of grey values in
    [0, 1]; colour, the mean distance of a channel from grey; the correlation of neighbouring
    pixels; and the slope of log power against log spatial frequency, about -2 for photographs
    (Field 1987).
    """
    counts = np.array([count for count in data.count_by_class("train").values() if count])
    shares, groups = counts / counts.sum(), data.samples.groups
    positions, parts = some_positions(data), list[Array]()
    for begin in range(0, len(positions), BATCH):
        inputs = data.inputs("train", positions[begin : begin + BATCH])
        shown = (inputs * data.std + data.mean).numpy().astype(np.float64)
        grey = shown.mean(1)
        own = grey - grey.mean((1, 2), keepdims=True)
        beside = (own[:, :, 1:] * own[:, :, :-1]).mean() + (own[:, 1:] * own[:, :-1]).mean()
        colour = np.abs(shown - grey[:, None]).mean()
        values = [grey.mean(), (own**2).mean(), colour, beside / 2, *_power(own)]
        parts.append(len(shown) * np.array(values))
    mean, variance, colour, beside, *power = np.sum(parts, 0) / len(positions)
    octaves, enough = np.arange(len(power)), len(power) > 1  # not below 16 pixels
    powers = np.log2(np.maximum(power, 1e-20))
    people = np.nan if groups is None else len({groups[row] for row in data.rows["train"]})
    return {
        "count": data.count("train"),
        "classes": len(counts),
        "effective_classes": float(np.exp(-(shares * np.log(shares)).sum())),
        "patients": people,
        "grey": mean,
        "contrast": float(np.sqrt(variance)),
        "colour": colour,
        "neighbours": beside / max(variance, 1e-12),
        "spectrum_slope": float(np.polyfit(octaves, powers, 1)[0]) if enough else np.nan,
    }


def _power(centred: Array) -> list[float]:
    """Return the mean power of images (N, S, S) in each octave of spatial frequency."""
    size = centred.shape[1]
    window = np.outer(np.hanning(size), np.hanning(size))
    power = (np.abs(np.fft.fft2(centred * window)) ** 2).mean(0)
    axis = np.fft.fftfreq(size) * size
    radius = np.hypot(*np.meshgrid(axis, axis))
    octaves = range(1, int(np.log2(size / 2)))
    return [float(power[(radius >= 2**o) & (radius < 2 ** (o + 1))].mean()) for o in octaves]
