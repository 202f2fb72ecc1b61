"""A rule of one's own on the stage of the shipped rule that it is most like: same contracts, same traffic.

rules/mine/rule.yaml ──► names of contracts and tokens ──► the scene that has them all, and most of its events
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bridge.domain.errors import ConfigError
from bridge.domain.plans import Plan
from bridge.domain.windows import Each
from bridge.runtime.rulefile import load_rule
from bridge.simulation.anvil import REPOSITORY
from bridge.simulation.scenes.scene import Scene, SceneRule


def own_scene(asked: str, scenes: Mapping[str, Scene]) -> Scene:
    """Raises ConfigError where the file holds no rule, or where no scene has the contracts and tokens that it names.

    What the rule must find and give to whom is not known here; all else is judged as ever.
    """
    path = Path(asked)
    file = (path / "rule.yaml" if path.is_dir() else path).resolve()
    plan = load_rule(file)
    shipped = {name: load_rule(REPOSITORY / "rules" / name / "rule.yaml") for name in scenes}
    fitting = {name: _likeness(plan, other) for name, other in shipped.items() if _named(plan) <= _named(other)}
    if not fitting:
        known = "; ".join(f"{name}: {', '.join(sorted(_named(other)))}" for name, other in shipped.items())
        raise ConfigError(
            f"no scene has all that the rule names: {', '.join(sorted(_named(plan)))}",
            where=str(file),
            mend=f"a rule can be simulated that names what one of these does: {known}",
        )
    name = max(fitting, key=lambda each: (fitting[each], each))
    scene, trigger = scenes[name], plan.rule.trigger
    same_trigger = trigger == shipped[name].rule.trigger
    rule = SceneRule(
        plan.rule.name,
        name,
        each=scene.rules[0].each if same_trigger else None,
        file=file,
        free=isinstance(trigger, Each) and not same_trigger,
    )
    return replace(scene, name=plan.rule.name, rules=(rule,))


def _named(plan: Plan) -> frozenset[str]:
    return plan.contracts() | plan.tokens() | {plan.rule.asset}


def _likeness(plan: Plan, other: Plan) -> int:
    """How many kinds of events both listen to."""
    return len(_events(plan) & _events(other))


def _events(plan: Plan) -> frozenset[tuple[tuple[str, ...], str]]:
    return frozenset((event.contracts, event.declaration) for event in plan.rule.events.values())
