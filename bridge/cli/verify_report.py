"""bridge verify DIR: a report's folder, offline or against a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.cli.app import EXIT_NO
from bridge.cli.node import Names, open_node
from bridge.domain.errors import ConfigError
from bridge.domain.units import AssetId
from bridge.runtime.config import Config
from bridge.stages.report_files.chain import Asked, ask_chain
from bridge.stages.report_files.folder import Checked, check_folder
from bridge.stages.report_files.tables import Document


async def verify_report(directory: Path, rpc: Sequence[str], config: Config | None) -> int:
    """0 where the folder is whole, agrees in itself and, where nodes are named, with the chain; 1 where it does not.

    Nodes are those of `rpc`, else those of `config`, for each of its chains that the report is about.
    """
    checked = check_folder(directory)
    asked = [await _ask(checked.document, names) for names in _nodes(checked.document, rpc, config)]
    for line in _told(checked, asked):
        print(line)
    for problem in checked.problems:
        print(f"NOT whole: {problem}")
    wrong = [problem for one in asked for problem in one.problems]
    for problem in wrong:
        print(f"NOT as on the chain: {problem}")
    if checked.problems or wrong:
        return EXIT_NO
    print("whole, and as on the chain" if asked else "whole")
    return 0


def _nodes(document: Document | None, rpc: Sequence[str], config: Config | None) -> list[Names]:
    if document is None:
        return []
    if rpc:
        return [Names(rpc=rpc, assets=[AssetId(asset["id"]) for asset in document["assets"]])]
    told = {chain["reference"] for chain in document["chains"] if chain["cut_off"]}
    chains = config.chains.items() if config is not None else ()
    return [Names(config, name) for name, section in chains if section.reference in told]


async def _ask(document: Document | None, names: Names) -> Asked:
    assert document is not None
    async with open_node(names) as node:
        asked = await ask_chain(document, node.reader)
        if not asked.blocks:
            chains = ", ".join(chain["reference"] for chain in document["chains"] if chain["cut_off"]) or "no chain"
            raise ConfigError(
                f"the node serves {node.reader.reference}, the report is about {chains}",
                where="--rpc",
                mend="name a node of that chain",
            )
    return asked


def _told(checked: Checked, asked: Sequence[Asked]) -> list[str]:
    document = checked.document
    lines = [] if document is None else [document["sentence"]]
    for chain in document["chains"] if document is not None else ():
        cut = chain["cut_off"]
        block = f"block {cut['number']:,} {cut['hash']}" if cut else "no final block"
        lines.append(f"  {chain['chain']:<11} {chain['reference']}, {block}")
    lines.append(f"  files       {checked.files:,}, with their tables and sums")
    lines += [f"  note        {note}" for note in checked.notes]
    if not asked:
        lines.append("  chain       not asked: give --rpc URL")
    lines += [f"  chain       {one.blocks:,} blocks and {one.balances:,} balances asked for" for one in asked]
    return lines
