"""A rule of one's own is played on the stage of the shipped rule that it is most like."""

from pathlib import Path

import pytest

from bridge.domain.errors import ConfigError
from bridge.simulation.scenes import SCENES, find_scene

RULES = Path(__file__).resolve().parents[2] / "rules"


@pytest.mark.parametrize("name", sorted(SCENES))
def test_own_rule__copy_under_another_name__same_stage_and_windows(tmp_path: Path, name: str):
    file = tmp_path / "rule.yaml"
    file.write_text((RULES / name / "rule.yaml").read_text().replace(f"rule: {name}\n", "rule: mine\n"))
    scene = find_scene(str(tmp_path))
    assert (scene.name, scene.contracts, scene.cast) == ("mine", SCENES[name].contracts, SCENES[name].cast)
    [rule] = scene.rules
    assert (rule.name, rule.file, rule.each) == ("mine", file, SCENES[name].rules[0].each)
    assert (rule.surplus, rule.weights) == (None, None)  # of a changed text nothing can be told


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("contract: pool", "contract: my_pool", "no scene has all that the rule names: USDX, my_pool, vault"),
        ("USDX", "USDC", "no scene has all that the rule names: USDC, pool, vault"),
        ("surplus: fees", "surplus: fes", "did you mean `fees`"),
    ],
)
def test_own_rule__cannot_be_played__says_why(tmp_path: Path, old: str, new: str, problem: str):
    file = tmp_path / "mine.yaml"
    file.write_text((RULES / "fee_window/rule.yaml").read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        find_scene(str(file))
    assert problem in str(caught.value)


def test_own_rule__neither_name_nor_file__both_are_said():
    with pytest.raises(ConfigError, match="fee_windw") as caught:
        find_scene("fee_windw")
    assert caught.value.mend is not None
    assert "fee_window" in caught.value.mend
    assert "of your own" in caught.value.mend
