"""The `[policy]` section of a spec: what trains a challenger, and what promotes one.

Declarations only, as in `perennial.spec`: `monitoring.policy` decides by them.
"""

from typing import Literal

from pydantic import Field

from perennial.base import FrozenModel

Training = Literal["drift", "performance", "every", "age"]
Promotion = Literal["avoidable", "always", "manual"]


class PolicySpec(FrozenModel):
    """Two decisions: when a challenger is trained, and when one replaces the champion."""

    train_on: tuple[Training, ...] = Field(
        ("drift", "performance", "every", "age"),
        description="what asks for a training: a finding of that kind, `every` so many windows without one, the champion's age "
        "over `signals.max_age` (which also promotes)",
    )
    every: int = Field(4, ge=1, description="windows after which a challenger is trained though nothing was found")
    promote: Promotion = Field(
        "avoidable",
        description="`avoidable`: when the loss that challengers would have saved reaches `cost`; `always`: whatever the gate "
        "lets pass, right after its training; `manual`: when a person runs `perennial promote`",
    )
    cost: float = Field(0.2, gt=0, description="what a new version may cost, in losses of one window: 0.2 is a fifth of one")
    z: float = Field(1.0, ge=0, description="standard errors by which the avoidable loss must differ from nothing")
    unlabelled_windows: int = Field(
        4, ge=1, description="windows in a row without enough labels (`window.label_share`) after which drift promotes"
    )
