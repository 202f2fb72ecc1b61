"""A report's folder against the chain: the blocks that it names, and what its accounts held then.

    cut-off number ──node──► hash = cut-off hash
    account, asset, cut-off hash ──node──► balance = on_chain, or closing where the report did not read it

Any node that keeps the state of that block will do: nothing that the report says is needed to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import AssetId, BlockStamp, format_hash, hash_of, parse_address, parse_hash
from bridge.ports.reading import ChainReader
from bridge.stages.report_files.tables import Document


@dataclass(frozen=True, slots=True)
class Asked:
    blocks: int
    balances: int
    problems: tuple[str, ...]


async def ask_chain(document: Document, chain: ChainReader) -> Asked:
    """Ask again for all that the report says of `chain`; nothing where the report is not about it.

    Raises StateUnavailable where no endpoint has the state of that block any more, ChainUnavailable where none answers.
    """
    blocks = balances = 0
    problems: list[str] = []
    for scope in document["chains"]:
        if scope["reference"] != chain.reference:
            continue
        stamps = [_stamp(scope["chain"], scope[name]) for name in ("opening", "cut_off") if scope[name] is not None]
        genuine = [stamp for stamp in stamps if await _is_known(chain, stamp, problems)]
        blocks += len(stamps)
        if scope["cut_off"] is None or stamps[-1] not in genuine:
            continue
        for row in document["roll_forward"]:
            if row["asset"].partition("/")[0] == chain.reference:
                balances += 1
                problems += await _balance(chain, row, stamps[-1])
    return Asked(blocks, balances, tuple(problems))


def _stamp(chain: str, block: dict[str, Any]) -> BlockStamp:
    return BlockStamp(chain, block["number"], parse_hash(block["hash"]))


async def _is_known(chain: ChainReader, stamp: BlockStamp, problems: list[str]) -> bool:
    try:
        (block,) = await chain.blocks([stamp.number])
    except ChainDisagrees as error:
        problems.append(f"block {stamp.number:,} of {stamp.chain}: {error}")
        return False
    if block.hash != stamp.hash:
        found, said = format_hash(hash_of(block.hash, chain.reference)), format_hash(stamp.hash)
        problems.append(f"block {stamp.number:,} of {stamp.chain}: its hash is {found}, by the report {said}")
    return block.hash == stamp.hash


async def _balance(chain: ChainReader, row: dict[str, Any], at: BlockStamp) -> list[str]:
    asset = AssetId(row["asset"])
    try:
        address = parse_address(row["account"].rpartition(":")[2])
    except ValueError:
        return [f"{row['account']} or {asset} is no address of this chain"]
    held = await chain.balance(address, asset, at)
    # A report that says that the books differ from the chain is a true one.
    name = "closing" if row["on_chain"] is None else "on_chain"
    if int(row[name]) == held:
        return []
    return [f"{row['account']} held {held} of {asset} at block {at.number:,}, {name} is {row[name]}"]
