"""`python train.py +experiment=two_stage`; with -m a sweep."""

import hydra
from omegaconf import DictConfig

from stagetransfer.cli import train


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the composed config."""
    train.run(cfg)


if __name__ == "__main__":
    train.enter(main)
