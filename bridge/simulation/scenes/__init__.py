"""The scenes that can be played: one for each rule that ships, and the market, where several rules are at work."""

from __future__ import annotations

from bridge.domain.errors import ConfigError
from bridge.simulation.scenes.fee_window import FEE_WINDOW
from bridge.simulation.scenes.inflow_smoothing import INFLOW_SMOOTHING
from bridge.simulation.scenes.liquidation_gain import LIQUIDATION_GAIN
from bridge.simulation.scenes.market import MARKET
from bridge.simulation.scenes.price_improvement import PRICE_IMPROVEMENT
from bridge.simulation.scenes.reserve_buffer import RESERVE_BUFFER
from bridge.simulation.scenes.scene import Scene
from bridge.simulation.scenes.signed_buffer import SIGNED_BUFFER
from bridge.simulation.scenes.treasury_over_reserve import TREASURY_OVER_RESERVE
from bridge.simulation.scenes.yield_skim import YIELD_SKIM

SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        RESERVE_BUFFER,
        FEE_WINDOW,
        INFLOW_SMOOTHING,
        PRICE_IMPROVEMENT,
        SIGNED_BUFFER,
        TREASURY_OVER_RESERVE,
        YIELD_SKIM,
        LIQUIDATION_GAIN,
    )
}
"""By the name of the rule."""


def find_scene(rule: str | None) -> Scene:
    """The scene of the rule; without one, the market. Raises ConfigError for a name that no scene has."""
    if rule is None:
        return MARKET
    if rule not in SCENES:
        raise ConfigError(f"there is no scene for the rule `{rule}`", mend=f"name one of {', '.join(SCENES)}")
    return SCENES[rule]
