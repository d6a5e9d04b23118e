"""The health of a finished training: whether it learned, and what its losses and outputs show.

Each finding is a number in the record (`Health.record`), which metrics.json holds for each stage,
and a sentence with the most likely cure.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from stagetransfer.config.schema import Trainer
from stagetransfer.models.tensor_files import shortened
from stagetransfer.runs.run import AT_CHANCE, CONSTANT, DIVERGED, LEARNED
from stagetransfer.statistics import macro_recall_interval
from stagetransfer.training.feature_cache import StageData, images_of
from stagetransfer.training.fit import Fitted, evaluate
from stagetransfer.training.module import ClassifierModule, TestResult

FIRST_LOSS_ABOVE = 0.3  # nats above ln K
SPIKE = 2.0  # times the first loss
DEAD = 0.5  # share of a layer's units
FEW_IMAGES = 50  # the standard error of an accuracy of 0.5 is then 0.07
IMPROVING = 0.02  # share by which the validation loss still fell


@dataclass(frozen=True)
class Health:
    """What a training's own losses and its validation images say about it; losses are in nats."""

    verdict: str  # LEARNED, AT_CHANCE, CONSTANT or DIVERGED
    recall: float  # macro recall on the validation images
    low: float  # the ends of its 95 % interval
    high: float
    chance: float  # 1 / K for K classes, the macro recall of any guess that ignores the image
    first_loss: float  # training losses of single steps
    largest_loss: float
    last_loss: float  # the mean training loss of the last epoch
    chance_loss: float  # ln K, the cross-entropy of equal probabilities
    steps: int  # of the optimiser
    never_predicted: list[str]  # classes of validation images that none of them was given
    dead_relus: dict[str, float]  # of each ReLU the share of units with 0 on all validation images
    still_improving: bool  # the validation loss fell until the end; see `_still_improving`
    few_validation_images: bool  # fewer than FEW_IMAGES, or a class has only one
    remarks: list[str]  # the findings as sentences

    @property
    def learned(self) -> bool:
        """Whether the network tells classes apart on images that it was not trained on."""
        return self.verdict == LEARNED

    @property
    def unclear(self) -> bool:
        """Whether the few validation images leave open if it learned; test images may show it."""
        above = self.verdict == AT_CHANCE and self.recall > self.chance
        return above and self.few_validation_images

    @property
    def record(self) -> dict[str, object]:
        """The entry of metrics.json."""
        return {"learned": self.learned, **asdict(self)}

    @property
    def line(self) -> str:
        """The verdict and the findings in one line."""
        title = "learned" if self.learned else f"DID NOT LEARN ({self.verdict})"
        if self.unclear:
            title = "NOT CLEARLY ABOVE CHANCE"
        found = f"validation recall {self.recall:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return " ".join([f"{title}: {found}, chance {self.chance:.3f}.", *self.remarks])


def assess(
    module: ClassifierModule, data: StageData, fitted: Fitted, settings: Trainer
) -> tuple[TestResult, Health]:
    """Test the module on the validation images; return the result and the health of its training.

    The module must have the weights that `fitted` chose.
    """
    with _watched_relus(module.network) as used:
        validated = evaluate(module, data, settings, split="validation")
    rows, labels, probabilities = validated
    samples = images_of(data).samples
    groups = None if samples.groups is None else np.array(samples.groups)[rows]
    chosen = module.recipe.monitor != "last"
    health = health_of(
        fitted, labels, probabilities, groups, samples.classes, _dead_shares(used), chosen=chosen
    )
    return validated, health


def health_of(
    fitted: Fitted,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None,
    classes: tuple[str, ...],
    dead_relus: dict[str, float],
    *,
    chosen: bool = True,
) -> Health:
    """Return the health of a training from its losses and its N validation images.

    The arrays are (N,), (N, K), and (N,) or None; `chosen` tells whether the validation images
    chose the epoch.
    """
    predicted, count, losses = probabilities.argmax(1), len(classes), fitted.losses
    recall, low, high = macro_recall_interval(labels, predicted, groups, count)
    chance, chance_loss = 1 / count, math.log(count)
    images_of = np.bincount(labels, minlength=count)
    absent = [name for name, images in zip(classes, images_of, strict=True) if not images]
    never = [
        name for i, name in enumerate(classes) if name not in absent and not (predicted == i).any()
    ]
    constant = len({*predicted.tolist()}) == 1 and len(absent) < count - 1
    verdict = LEARNED if low > chance else AT_CHANCE
    if constant:
        verdict = CONSTANT
    if losses.diverged_in is not None:
        verdict = DIVERGED
    small = bool(len(labels) < FEW_IMAGES or images_of.min() < 2)
    improving = _still_improving(losses.validation)
    remarks = []
    if verdict == DIVERGED:
        remarks.append(
            f"In epoch {losses.diverged_in} the loss was infinite or not a number: lower "
            "recipe.optimizer.lr, or set recipe.gradient_clip_norm=5."
        )
    elif constant:
        remarks.append(
            f"All {len(labels)} validation images were given the class {classes[predicted[0]]}: "
            "use a lower recipe.optimizer.lr, recipe.gradient_clip_norm=5 or more epochs."
        )
    elif verdict == AT_CHANCE and small and recall > chance:
        remarks.append(f"{len(labels)} validation images are too few to tell.")
    elif verdict == AT_CHANCE:
        remarks.append(
            "The validation images do not show that it learned: train longer (recipe.epochs, "
            "recipe.min_steps), or use other data."
        )
    elif never:
        remarks.append(f"Never predicted: {shortened(never)}.")
    if absent:
        remarks.append(f"No validation image of {shortened(absent)}, which no average includes.")
    if losses.first > chance_loss + FIRST_LOSS_ABOVE:
        remarks.append(
            f"The first loss was {losses.first:.3g}, and {chance_loss:.2f} for equal "
            "probabilities: use model.initialisation=lsuv."
        )
    elif losses.largest > SPIKE * max(losses.first, chance_loss) and verdict != DIVERGED:
        remarks.append(
            f"The loss rose to {losses.largest:.3g} and fell again: lower recipe.optimizer.lr, or "
            "set recipe.gradient_clip_norm."
        )
    worst, share = max(dead_relus.items(), key=lambda item: item[1], default=("", 0.0))
    if share > DEAD:
        remarks.append(f"{share:.0%} of the units of {worst} are 0 for every validation image.")
    if improving:
        remarks.append("Still improving at the last epoch: more recipe.epochs may help.")
    if small and chosen:
        remarks.append(
            f"{len(labels)} validation images are too few to choose an epoch: recipe.monitor=last "
            "takes the last one."
        )
    return Health(
        verdict, recall, low, high, chance, losses.first, losses.largest, losses.last, chance_loss,
        losses.steps, never, dead_relus, improving, small, remarks,
    )  # fmt: skip


def _still_improving(losses: list[float]) -> bool:
    """Return whether the last fifth of the epochs has the lowest loss, and a clearly lower mean."""
    n = max(1, len(losses) // 5)  # single epochs are noisy
    if len(losses) < 2 * n:
        return False
    before, after = np.mean(losses[-2 * n : -n]), np.mean(losses[-n:])
    return bool(after < (1 - IMPROVING) * before and min(losses[-n:]) == min(losses))


@contextmanager
def _watched_relus(network: nn.Module) -> Iterator[dict[str, dict[int, Tensor]]]:
    """Yield a dict that gets, for each ReLU, which units were above 0 for some image.

    The units (C,) are by their number C: a network may call one ReLU for outputs of several widths.
    """
    used: dict[str, dict[int, Tensor]] = defaultdict(dict)

    def watch(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        active, of = (output > 0).transpose(0, 1).flatten(1).any(1), used[name]
        before = of.get(len(active))
        of[len(active)] = active if before is None else before | active

    with ExitStack() as stack:
        for name, one in network.named_modules():
            if isinstance(one, nn.ReLU):
                stack.enter_context(one.register_forward_hook(partial(watch, name)))
        yield used


def _dead_shares(used: dict[str, dict[int, Tensor]]) -> dict[str, float]:
    """Return the share of each ReLU's units that were never above 0."""
    return {name: float((~torch.cat([*of.values()])).float().mean()) for name, of in used.items()}
