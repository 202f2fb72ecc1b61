"""The rules that ship, as a scene runs them: their very texts, with shorter windows and what else has to differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address
from bridge.runtime.rulefile import parse_rule
from bridge.simulation.anvil import REPOSITORY
from bridge.simulation.deploy import Deployment
from bridge.simulation.scenes.scene import Numbers, Scene, SceneRule


def check_shipped(scene: Scene) -> None:
    """Raises ConfigError where a rule of the scene is not there."""
    for rule in scene.rules:
        path = _shipped(rule)
        if not path.is_file():
            raise ConfigError("the shipped rule is not there", where=str(path), mend="check the repository out again")


def rule_texts(facts: dict[str, Any], deployment: Deployment) -> dict[str, str]:
    """The texts by name. `facts` is what sandbox.json says."""
    numbers = Numbers(facts["epoch_seconds"], deployment.stage.tokens)
    beneficiaries = [wallet.address for wallet in deployment.stage.beneficiaries]
    texts: dict[str, str] = {}
    for rule in deployment.scene.rules:
        text = adapted(rule, numbers)
        texts[rule.name] = with_shares(text, beneficiaries) if rule.beneficiaries else text
        parse_rule(texts[rule.name], name=rule.name, contracts=set(facts["contracts"]), tokens=set(facts["tokens"]))
    return texts


def _shipped(rule: SceneRule) -> Path:
    return rule.file or REPOSITORY / "rules" / rule.shipped / "rule.yaml"


def adapted(rule: SceneRule, numbers: Numbers) -> str:
    """The shipped rule's text with other values; each key stands there once, and its comment and unit stay."""
    path = _shipped(rule)
    text = path.read_text(encoding="utf-8")
    values: Mapping[str, str] = rule.values(numbers)
    ends_with_events = re.search(r"^window: *\{ *each:", text, flags=re.MULTILINE) is not None
    if not rule.free:
        assert ends_with_events == (rule.each is not None), f"the windows of {path} are not what the scene is made for"
    if not ends_with_events:
        values = {"window": f"{{every: {numbers.epoch_s} s}}", **values}
    for key, value in values.items():
        line = rf"^( *{key}: *)[^#\n]*?( amount<\w+>)?( *(?:#.*)?)$"
        text, count = re.subn(line, rf"\g<1>{value}\g<2>\g<3>", text, flags=re.MULTILINE)
        if count != 1:
            raise ConfigError(
                f"`{key}` stands there {count} times in one line", where=str(path), mend=f"write `{key}: …` in one line"
            )
    if "asset" in values:
        text = text.replace("amount<USDX>", f"amount<{values['asset']}>")
    if rule.file is not None:
        return f"# Your {path.name}, with windows as long as an epoch of this sandbox.\n{text}"
    return f"# The rule that ships as {path.relative_to(REPOSITORY)}, with this sandbox's numbers.\n{text}"


def with_shares(text: str, beneficiaries: Sequence[Address]) -> str:
    """The addresses of the shares, in the order in which they stand there, replaced."""
    fresh = iter(beneficiaries)
    text = re.sub(r"(?<=\bto: )0x[0-9a-fA-F]{40}\b", lambda _: format_address(next(fresh)), text)
    assert next(fresh, None) is None, "the shipped rule has fewer shares than there are beneficiaries"
    return text.replace("shares: # replace these addresses by your own", "shares:")
