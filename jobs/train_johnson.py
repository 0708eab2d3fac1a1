"""Train a network to paint in the manner of one picture. See configs/train_johnson.yaml."""

import logging
import sys

from nst_ops.config import ConfigError, TrainJohnsonConfig, parse_config

_EPILOG = """\
Any key may stand in the file or on the command line; the command line wins.

examples:
  python jobs/train_johnson.py --config configs/train_johnson.yaml
  python jobs/train_johnson.py --config configs/train_johnson.yaml --style klimt.jpg --output runs/klimt
  python jobs/train_johnson.py --config configs/train_johnson.yaml --start_from runs/klimt/model.safetensors

The checkpoint in OUTPUT is what jobs/stylize_dataset.py takes as --model.checkpoint.
exit codes: 0 trained, 2 bad configuration or data, 1 diverged or fatal.
"""


def main() -> int:
    """Read the configuration, train, print what came out."""
    config = parse_config(TrainJohnsonConfig, epilog=_EPILOG)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from nst_ops.training.johnson import train_johnson  # torch is slow to import, and --help needs none of it

    try:
        facts = train_johnson(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    losses = ", ".join(f"{name} {value}" for name, value in facts["losses"].items())
    speed = f"{facts['images_per_s']} photographs/s"
    print(f"{config.output}/model.safetensors: {facts['steps']} steps, {losses}, {speed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
