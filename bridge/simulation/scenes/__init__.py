"""The scenes that can be played: one for each rule that ships, and the market, where several rules are at work."""

from __future__ import annotations

from pathlib import Path

from bridge.domain.errors import ConfigError
from bridge.simulation.scenes.fee_window import FEE_WINDOW
from bridge.simulation.scenes.inflow_smoothing import INFLOW_SMOOTHING
from bridge.simulation.scenes.liquidation_gain import LIQUIDATION_GAIN
from bridge.simulation.scenes.market import MARKET
from bridge.simulation.scenes.own import own_scene
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
    """The scene of a shipped rule, or of a rule file of one's own; without either, the market. Raises ConfigError for a
    name that no scene has, and for a file that cannot be played."""
    if rule is None:
        return MARKET
    if rule in SCENES:
        return SCENES[rule]
    if not Path(rule).exists():
        mend = f"name one of {', '.join(SCENES)}, or the file of a rule of your own"
        raise ConfigError(f"there is no scene for the rule `{rule}`", mend=mend)
    return own_scene(rule, SCENES)
