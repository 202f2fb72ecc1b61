"""Where books and chain part: the very block, with its logs and the journals around it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from bridge.domain.errors import ConfigError
from bridge.domain.events import Block, BlockAdded, Log, pack_logs
from bridge.domain.ledger import Mirror
from bridge.domain.units import Address, AssetId, format_address, parse_address
from bridge.ports.reading import LogFilter
from bridge.stages.divergence import Divergence, Search, find_mirror
from bridge.store.database import Database
from tests.stages.books import (
    ETH,
    OPERATOR,
    OPERATOR_CODE,
    PAYER,
    T0,
    TOKEN,
    USDX,
    VAULT,
    VAULT_CODE,
    WATCHED,
    Chain,
    block_hash,
    bookkeeper,
    fee,
    run,
    start,
    transfer,
)


class Node:
    """Implements ports.History for one block: it has what it is given."""

    def __init__(self, *logs: Log) -> None:
        self.logs = logs

    async def finalized(self) -> Block | None:
        raise NotImplementedError

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        assert filters
        assert first == last
        logs = [log for log in self.logs if log.block.number == first]
        yield BlockAdded(first, (Block(first, block_hash(first), block_hash(first - 1), T0 + first),), pack_logs(logs))


def mirror(code: str, asset: AssetId) -> Mirror:
    return next(each for each in WATCHED.mirrors if (each.code, each.asset.id) == (code, asset))


async def search(chain: Chain, *logs: Log, code: str = VAULT_CODE, asset: AssetId = USDX) -> Divergence:
    await run(await bookkeeper(chain))
    return await Search(
        database=chain.database,
        chain=chain,
        history=Node(*logs),
        watched=WATCHED,
        mirror=mirror(code, asset),
        start_block=chain.start_block,
    ).run()


async def blocks_with_fees(database: Database, count: int, *, silent_at: int | None = None) -> Chain:
    """Block n > 0 brings n atoms of fees; in `silent_at` 100 more come without an event."""
    chain = await start(database, held={(VAULT, USDX): 5, (OPERATOR, ETH): 1000})
    for number in range(1, count + 1):
        if number == silent_at:
            chain.move(TOKEN, {"from": PAYER, "to": VAULT, "value": 100})
        await chain.mine(*fee(number))
    return chain


async def test_search__books_and_chain_agree__no_block_and_one_look(database: Database):
    found = await search(await blocks_with_fees(database, 4))
    assert (found.first, found.probes, found.running) == (None, 1, 15)


@pytest.mark.parametrize("planted", [1, 2, 11, 16, 17])
async def test_search__balance_moved_without_event__that_very_block(database: Database, planted: int):
    found = await search(await blocks_with_fees(database, 17, silent_at=planted))
    assert found.first is not None
    assert found.agreed is not None
    assert (found.agreed.at.number, found.agreed.difference) == (planted - 1, 0)
    assert (found.first.at.number, found.first.at.hash, found.first.difference) == (planted, block_hash(planted), 100)
    assert found.cut_off.difference == 100
    assert found.probes <= 2 + 5  # 17 blocks
    assert {move.block_number for move, _ in found.journals} == {
        number for number in range(planted - 2, planted + 3) if 0 <= number <= 17
    }
    assert [(move.net, altered) for move, altered in found.journals if move.block_number == planted] == [
        (planted, False)
    ]


async def test_search__log_that_only_the_node_has__named(database: Database):
    chain = await start(database)
    await chain.mine(*fee(3))
    chain.move(TOKEN, {"from": PAYER, "to": VAULT, "value": 4})
    stamp = await chain.mine()
    topics, data = chain.decoder(transfer(PAYER, VAULT, 4)[1]).encode(transfer(PAYER, VAULT, 4)[2])
    found = await search(chain, Log(stamp, 7, b"\x01" * 32, 0, TOKEN, topics, data, T0 + 2))
    [log] = found.logs
    assert (log.event.source, log.event.log.log_index) == ("token.Transfer", 7)
    assert (log.stored, log.on_node, log.booked) == (False, True, False)


async def test_search__ledger_row_changed__its_block_and_its_journal(database: Database):
    chain = await blocks_with_fees(database, 9)
    await run(await bookkeeper(chain))
    async with database.begin() as tx:
        await tx.connection.execute("SET LOCAL session_replication_role = replica")
        await tx.connection.execute("UPDATE transfers SET amount = 7 WHERE amount = 6 AND block_number = 6")
    found = await search(chain)
    assert found.first is not None
    assert (found.first.at.number, found.first.difference) == (6, -1)
    assert [(move.block_number, move.net) for move, altered in found.journals if altered] == [(6, 7)]
    assert all((log.stored, log.on_node, log.booked) == (True, False, True) for log in found.logs)


async def test_search__running_balance_changed__transfers_agree_and_it_is_told(database: Database):
    chain = await blocks_with_fees(database, 3)
    await run(await bookkeeper(chain))
    async with database.begin() as tx:
        await tx.connection.execute(
            "UPDATE balances SET debits_posted = debits_posted + 1 "
            "WHERE account_id = (SELECT account_id FROM accounts WHERE code = $1 AND asset = $2)",
            *(VAULT_CODE, USDX),
        )
    found = await search(chain)
    assert (found.first, found.cut_off.books, found.running) == (None, 11, 12)


async def test_search__opening_differs__said_without_a_search(database: Database):
    chain = await blocks_with_fees(database, 6)
    await run(await bookkeeper(chain))
    for held, _ in chain.history:
        held[OPERATOR, ETH] += 1
    found = await search(chain, code=OPERATOR_CODE, asset=ETH)
    assert found.first is not None
    assert (found.agreed, found.first.at.number, found.first.difference, found.probes) == (None, 0, 1, 2)


@pytest.mark.parametrize("account", ["operator:gas", OPERATOR_CODE, OPERATOR_CODE.upper()])
def test_find_mirror__by_code_name_or_address__found(account: str):
    assert find_mirror([WATCHED], account, None) == mirror(OPERATOR_CODE, ETH)
    for each in (account, "operator", f"0x{OPERATOR.hex()}"):
        assert find_mirror([WATCHED], each, "eth") == mirror(OPERATOR_CODE, ETH)


def test_find_mirror__address_in_base58__found_as_it_is_written():
    """Where addresses differ in the case of their letters alone, they are two."""
    vault, other = parse_address("GRXzFRLncnpy8AE6zE5gPTx24G7uUGhk2wpFcR3Vq1Wh"), Address(bytes([9]) * 32)
    watched = replace(WATCHED, vault=vault, distributor=vault, operator=other, claims=None, tokens=WATCHED.tokens[:1])
    for account in (format_address(vault), f"vault:{format_address(vault)}", "vault", "Vault"):
        assert find_mirror([watched], account, WATCHED.tokens[0].symbol).address == vault
    with pytest.raises(ConfigError, match="no account"):
        find_mirror([watched], format_address(vault).lower(), None)


@pytest.mark.parametrize(
    ("account", "symbol", "problem"),
    [
        ("payable:0x01", None, "no account that the chain is compared with is called so"),
        ("operator:gas", "USDX", "no account that the chain is compared with is called so"),
        ("operator", None, "several accounts are called so"),
        ("", None, "no account"),
    ],
)
def test_find_mirror__mistake__says_what_there_is(account: str, symbol: str | None, problem: str):
    with pytest.raises(ConfigError, match=problem) as caught:
        find_mirror([WATCHED], account, symbol)
    assert f"{OPERATOR_CODE} --asset ETH" in str(caught.value)


def test_find_mirror__on_two_chains__asks_which():
    with pytest.raises(ConfigError, match="several accounts are called so"):
        find_mirror([WATCHED, WATCHED], "operator", None)
