"""The door: `python train.py +experiment=two_stage`; with -m a sweep."""

import hydra
from omegaconf import DictConfig

from stagetransfer import door


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """One run of the composed config."""
    door.run(cfg)


if __name__ == "__main__":
    door.enter(main)
