"""Published scores of "unlike the training data", compared: python -m benchmarks.unfamiliar RUN

RUN is a finished run on the embedded target. Scores are fitted to its training images; each one's
threshold is its 95th percentile on the validation images. In distribution are the test images, of
other patients. Beside them are:

* no images: black, white and grey, checkerboards, stripes, ramps and noise;
* other domains: the embedded natural images and textures, grey;
* other tissue: windows of the phantom's slices without lung (fat, muscle, spine, table, air);
* other organs, with `--dicom FOLDER` of chest CT: windows in the body without lung;
* shifted kernel: the test images blurred, sharpened, or with noise. These are lung, so that a high
  share means that the score notices the scanner;
* lung of slices: windows in the phantom's lungs with their borders between classes, and with
  `--dicom` those in real lungs, which no training image shows.

AUROC and FPR at 95 % TPR are those of a group against the test images: FPR is the share of the
group that passes for lung where 95 % of the test images do. "Marked" is the share above the
threshold; the worst class is that of the test images whose share is the highest.

Scores: kNN, distance to the 10th training image of the head's input, of unit length or not (Sun et
al. 2022, ICML); Mahalanobis distance to the nearest class of the head's input, and of the channel
means of all blocks (Lee et al. 2018, NeurIPS); kNN and simplified local outlier factor (Schubert,
Zimek, Kriegel 2014, DMKD 28) of these; A^p B^(1 - p), where A is this factor and B the kNN distance
over its median, of which `stagetransfer predict` takes that with p = 3/4; energy (Liu et al. 2020,
NeurIPS); ViM (Wang et al. 2022, CVPR).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.tables import show
from stagetransfer.ct import Problems, find_series
from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.inference.calibrated_classifier import TrainingDistance, split_forward
from stagetransfer.inference.lung_mask import find_lungs
from stagetransfer.inference.reference_features import Reference, open_reference
from stagetransfer.inference.slice_prediction import prepare_slice
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.synthetic import natural, texture
from stagetransfer.synthetic.lung_slices import lung_slice, patients_of_test

Array = NDArray[np.float64]
Images = NDArray[np.uint8]
Features = dict[str, Array]
Score = Callable[[Features], Array]
COUNT = 200  # images of a group
PRECISION = "32-true"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--dicom", type=Path, help="a folder of chest CT")
    arguments = parser.parse_args()
    (run,) = restore_runs([arguments.run])
    reference, _ = open_reference(run)
    network = run.network().eval()
    data = run.data
    split = {
        name: _features(network, _batches_of(run, name)) for name in ("train", "validation", "test")
    }
    rows = data.rows["train"]
    scores = _fitted(network, split["train"], np.asarray(data.samples.labels[rows]))
    tested = np.asarray(data.samples.images)[data.rows["test"]]
    tested_labels = np.asarray(data.samples.labels)[data.rows["test"]]
    groups = {
        name: _features(network, _batches(reference, run, images))
        for name, images in _groups(reference.patches, tested, arguments.dicom).items()
    }
    lines = []
    for score, function in scores.items():
        own, limit = function(split["test"]), np.quantile(function(split["validation"]), 0.95)
        lines.append((score, "test images", "", "", f"{(own > limit).mean():.3f}"))
        by_class = [(own > limit)[tested_labels == k].mean() for k in np.unique(tested_labels)]
        lines.append((score, "the worst class of these", "", "", f"{max(by_class):.3f}"))
        for name, features in groups.items():
            other = function(features)
            truth = np.repeat([0, 1], [len(own), len(other)])
            area = roc_auc_score(truth, np.concatenate([own, other]))
            fpr = (other <= np.quantile(own, 0.95)).mean()
            marked = (other > limit).mean()
            lines.append((score, name, f"{area:.3f}", f"{fpr:.3f}", f"{marked:.3f}"))
    sizes = ", ".join(f"{name} {len(one['logits'])}" for name, one in groups.items())
    show("Unlike the training data", ("score", "group", "AUROC", "FPR", "marked"), lines, sizes)


@torch.inference_mode()
def _features(network: Backbone, batches: list[torch.Tensor]) -> Features:
    """Return the head's input, the logits, and the features of the marks, each (N, F)."""
    found: dict[str, list[Array]] = {"head": [], "logits": [], "blocks": []}
    for images in batches:
        means, logits = split_forward(network, images, PRECISION)
        hidden = network.embed(images)[0]
        for name, tensor in (("head", hidden), ("logits", logits), ("blocks", means)):
            found[name].append(tensor.double().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _fitted(network: Backbone, train: Features, labels: NDArray[np.int64]) -> dict[str, Score]:
    """Return each score as a function of features; it is greater for what is less familiar."""

    def unit(x: Array) -> Array:
        return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))

    def knn(name: str, prepare: Callable[[Array], Array]) -> Score:
        found = NearestNeighbors(n_neighbors=10).fit(prepare(train[name]))
        return lambda x: np.asarray(found.kneighbors(prepare(x[name]))[0][:, -1])

    def mahalanobis(name: str, prepare: Callable[[Array], Array], by_class: bool) -> Score:
        x, group = prepare(train[name]), labels if by_class else 0 * labels
        means = np.stack([x[group == k].mean(0) for k in np.unique(group)])
        places = np.searchsorted(np.unique(group), group)
        covariance = LedoitWolf(assume_centered=True).fit(x - means[places])
        return lambda y: np.min(
            [covariance.mahalanobis(prepare(y[name]) - mean) for mean in means], axis=0
        )

    centre, spread = train["blocks"].mean(0), train["blocks"].std(0) + 1e-6
    chosen = TrainingDistance(torch.from_numpy(train["blocks"]))

    def standard(x: Array) -> Array:
        return np.asarray((x - centre) / spread)

    near = NearestNeighbors(n_neighbors=11).fit(standard(train["blocks"]))
    own = near.kneighbors(near._fit_X)[0][:, -1]  # the nearest to an image is the image itself

    def factor(x: Features, power: float) -> Array:
        """Return the local outlier factor to this power, times the distance to the rest of it."""
        away, places = near.kneighbors(standard(x["blocks"]), 10)
        return np.asarray(away[:, -1] * (1 / own[places]).mean(1) ** power)

    return {
        "kNN, unit length (version 0.1)": knn("head", unit),
        "kNN": knn("head", lambda x: x),
        "Mahalanobis": mahalanobis("head", lambda x: x, True),
        "energy": lambda x: -np.asarray(logsumexp(x["logits"], axis=1)),
        "ViM": _vim(network, train),
        "blocks, kNN": knn("blocks", standard),
        "blocks, A (local outlier factor)": lambda x: factor(x, 1),
        "blocks, A^(1/2) B^(1/2)": lambda x: factor(x, 0.5),
        "blocks, A^(3/4) B^(1/4)": lambda x: (
            chosen(torch.from_numpy(x["blocks"]).float()).double().numpy()
        ),
        "blocks, Mahalanobis by class": mahalanobis("blocks", standard, True),
        "blocks, Mahalanobis": mahalanobis("blocks", standard, False),
    }


def _vim(network: Backbone, train: Features) -> Score:
    """Virtual-logit matching: the part of the features outside the principal space, as a logit."""
    names = (f"{network.head}.weight", f"{network.head}.bias")
    weight, bias = (network.net.get_parameter(name).detach().double().numpy() for name in names)
    origin = -np.linalg.pinv(weight) @ bias
    x = train["head"] - origin
    size = min(512, len(x) // 2, x.shape[1] // 2)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    principal = axes[:size].T

    def residual(y: Array) -> Array:
        y = y - origin
        return np.asarray(np.linalg.norm(y - y @ principal @ principal.T, axis=1))

    alpha = train["logits"].max(1).mean() / residual(train["head"]).mean()
    return lambda y: np.asarray(alpha * residual(y["head"]) - logsumexp(y["logits"], axis=1))


def _batches_of(run: RestoredRun, split: str) -> list[torch.Tensor]:
    count = run.data.count(split)
    starts = range(0, count, 128)
    return [run.data.inputs(split, list(range(i, min(i + 128, count)))) for i in starts]


def _batches(reference: Reference, run: RestoredRun, images: Images) -> list[torch.Tensor]:
    classifier = reference.classifier(run, certain=0.5, familiar=0.95, device="cpu")
    pixels = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    return [classifier.inputs(pixels[i : i + 128]) for i in range(0, len(pixels), 128)]


def _groups(settings: PatchSettings, tested: Images, dicom: Path | None) -> dict[str, Images]:
    """Return patches (N, size, size) by group."""
    rng = np.random.default_rng(0)
    grey = tested if tested.ndim == 3 else tested[..., 0]
    size = settings.size
    found = {"no images": _no_images(rng, size)}
    others = [np.asarray(draw(0, size=size).images) for draw in (natural, texture)]
    found["other domains"] = np.concatenate([_some(rng, _grey(x), COUNT // 2) for x in others])
    lungs, rest = [], []
    for number in patients_of_test(12):
        one = lung_slice(0, number)
        side = (one.spacing, one.spacing)
        inside, outside = _windows(one.hu.astype(float), one.truth >= 0, side, settings)
        lungs.append(inside)
        rest.append(outside)
    found["other tissue"] = _some(rng, np.concatenate(rest), COUNT)
    real: list[list[Images]] = [[], []]
    if dicom is not None:
        for volume in find_series(dicom, Problems())[0]:
            planes = [(i, volume.read_slice(i)) for i in range(0, len(volume), 3)]
            masks = find_lungs(planes, volume.spacing)
            cut = PatchSettings(size, settings.level, settings.width, 18 / size)
            for index, hu in planes:
                inside, outside = _windows(hu, masks.mask(index), volume.spacing, cut)
                real[0].append(inside)
                real[1].append(outside[outside.mean((1, 2)) > 150])  # body, not air
        found["other organs"] = _some(rng, np.concatenate(real[1]), COUNT)
    some = _some(rng, grey, COUNT).astype(float)
    smooth = ndimage.gaussian_filter(some, (0, 1, 1))
    shifted = (smooth, some + 1.5 * (some - smooth), some + rng.normal(0, 25, some.shape))
    names = ("blurred", "sharpened", "with noise")
    for name, images in zip(names, shifted, strict=True):
        found[f"lung, {name}"] = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    found["lung of phantom slices"] = _some(rng, np.concatenate(lungs), COUNT)
    if dicom is not None:
        found["lung of real slices"] = _some(rng, np.concatenate(real[0]), COUNT)
    return found


def _windows(
    hu: Array, lung: NDArray[np.bool_], spacing: tuple[float, float] | None, cut: PatchSettings
) -> tuple[Images, Images]:
    """Return the windows within the lungs, and those without any lung, as uint8."""
    parts = []
    for mask in (lung, ~ndimage.binary_dilation(lung, iterations=3)):
        inner = PatchSettings(cut.size, cut.level, cut.width, cut.spacing, coverage=0.999)
        prepared = prepare_slice(hu, mask, spacing, inner, cut.size)
        batches = list(prepared.batches(128, torch.device("cpu")))
        pixels = torch.cat(batches)[:, 0] if batches else torch.zeros(0, cut.size, cut.size)
        parts.append(pixels.numpy().astype(np.uint8))
    return parts[0], parts[1]


def _no_images(rng: np.random.Generator, size: int) -> Images:
    rows, columns = np.indices((size, size))
    made = [np.full((size, size), value) for value in (0, 60, 128, 200, 255)]
    for width in (1, 2, 4, 8):
        made += [255 * ((rows // width + columns // width) % 2), 255 * (rows // width % 2)]
        made += [255 * (columns // width % 2)]
    made += [rows * 255 / size, columns * 255 / size, (rows + columns) * 127 / size]
    for _ in range(20):
        made += [rng.integers(0, 256, (size, size)), rng.normal(128, 40, (size, size))]
        made += [255 * (rng.random((size, size)) < 0.05)]
    return np.asarray(np.clip(np.stack(made), 0, 255), np.uint8)


def _grey(images: Images) -> Images:
    return np.asarray(images if images.ndim == 3 else images.mean(-1), np.uint8)


def _some(rng: np.random.Generator, images: Images, count: int) -> Images:
    return np.asarray(images[rng.permutation(len(images))[:count]], np.uint8)


if __name__ == "__main__":
    main()
