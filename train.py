"""`python train.py +experiment=two_stage`; with -m a sweep. See `python train.py --help`."""

import hydra
from omegaconf import DictConfig

from stagetransfer.cli import train


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run the composed config; return the monitored validation figure."""
    return train.run(cfg)


if __name__ == "__main__":
    train.enter(main)
