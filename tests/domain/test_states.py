"""The state machines: what the code allows is what the README draws."""

import re
from pathlib import Path

import pytest

from bridge.domain.errors import IllegalTransition
from bridge.domain.states import ACTION_ARROWS, MACHINES, ActionState, check_arrow

README = Path(__file__).parents[2] / "README.md"


def test_action_arrows__readme_diagram__is_the_same_table():
    drawn = set(re.findall(r"^    (\w+) --> (\w+):", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert drawn == {(str(source), str(target)) for source, targets in ACTION_ARROWS.items() for target in targets}


@pytest.mark.parametrize("machine", MACHINES)
def test_machines__every_state__has_its_arrows(machine: str):
    arrows = MACHINES[machine]
    assert set(arrows) == set(type(next(iter(arrows))))
    assert all(source not in targets for source, targets in arrows.items())


def test_action_arrows__unfinished_states__can_all_reach_an_end():
    ends = {ActionState.FINAL, ActionState.VOID}
    for state in ActionState:
        seen, edge = {state}, {state}
        while edge:
            edge = {target for source in edge for target in ACTION_ARROWS[source]} - seen
            seen |= edge
        assert seen & ends


def test_check_arrow__final__leads_nowhere():
    with pytest.raises(IllegalTransition, match="final to planned"):
        check_arrow("action", ActionState.FINAL, ActionState.PLANNED)
