"""Token accounts into which we paid once and that are gone: whoever closed one has its deposit.

    account is missing ─► transactions that named it, newest first ─► a payout of ours? ─► not made again

Otherwise a recipient could close it after every payout, and take the deposit of the next one too. One endpoint's word
is enough: what it hides costs a deposit, and what it invents it cannot sign.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.chains.solana import rpc as values
from bridge.chains.solana.markers import MEMO_START, read_deed
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.signatures import newest_hits
from bridge.chains.solana.transactions import OPTIONS, parse_transaction
from bridge.domain.units import Address

PAGES_MAX = 1
READ_MAX = 600
"""Anyone may name the account, also beside a memo like ours. To hide the one that counts behind a page of others, or
behind so many with such a memo, each for a fee of 5,000 lamports or more, costs more than the deposit comes to."""

KNOWN_MAX = 100_000


class Closed:
    """Asks what is final: what a fork takes away was never closed."""

    def __init__(self, rpc: SolanaRpc, operators: Collection[Address]) -> None:
        self._rpc = rpc
        self._operators = tuple(operators)
        self._others: set[tuple[Address, bytes]] = set()  # of these accounts, transactions that are not ours

    async def paid_into(self, account: Address) -> bytes | None:
        """The last final transaction of ours that paid into `account`, which is not there now; None if there is none.

        Raises ChainDisagrees, ChainUnavailable.
        """
        hits = await newest_hits(self._rpc.call, account, PAGES_MAX)
        likely = [hit.signature for hit in hits if not hit.failed and MEMO_START in hit.memo]
        for tx_id in likely[:READ_MAX]:
            if (account, tx_id) not in self._others and await self._is_ours(tx_id, account):
                return tx_id
        return None

    async def _is_ours(self, tx_id: bytes, account: Address) -> bool:
        answer = await self._rpc.call("getTransaction", [values.text(tx_id), OPTIONS])
        if answer is None:
            return False  # forgotten; another endpoint may know it the next time
        transaction = parse_transaction(answer, tx_id)
        if transaction.succeeded and account in transaction.names and read_deed(transaction.steps, self._operators):
            return True
        if len(self._others) >= KNOWN_MAX:
            self._others.clear()
        self._others.add((account, tx_id))
        return False
