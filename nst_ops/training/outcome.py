"""What a person reads when a training is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nst_ops.storage import Folder
from nst_ops.training.checkpointing import CARD, MODEL


def describe_outcome(output_uri: str, facts: Mapping[str, Any]) -> str:
    """Where the results of a training lie, what its losses are, and what to do next."""
    output = Folder(output_uri)
    losses = ", ".join(
        f"{term} {value:.3g}" for term, value in facts["validation"].items() if term != "total"
    )
    any_style = (
        "--model.kind vit_adain --style.images PICTURE " if facts["architecture"] == "vit_adain" else ""
    )
    minutes, seconds = divmod(facts["train_s"], 60)
    return "\n".join(
        [
            f"trained          {facts['steps']} steps in {minutes} min {seconds} s, on "
            f"{facts['workers']} x {facts['device']}",
            f"speed            {facts['images_per_s']:.3g} photographs/s, "
            f"{facts['data_wait_share']:.1%} of the time waiting for them",
            f"held-out losses  {losses}",
            f"look at          {output.uri('grid.png')}",
            f"                 {output.uri('losses.png')}",
            f"read             {output.uri(CARD)}",
            f"stylize with     {any_style}--model.checkpoint {output.uri(MODEL)}",
        ]
    )
