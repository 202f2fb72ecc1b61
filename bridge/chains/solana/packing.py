"""How many recipients one transaction has room for, at worst.

A batch is bound to its proposal before anyone knows which token accounts will be missing when it is paid, so each
recipient is counted as a stranger to all others, with an account to be made where that is allowed. The same order and
configuration must pack alike for ever: a database that was lost is planned again, to the byte.
"""

from __future__ import annotations

import functools
import hashlib

from bridge.chains.solana.markers import Deed
from bridge.chains.solana.messages import TRANSACTION_BYTES_MAX, Coin, Purse, Transfer, draft
from bridge.chains.solana.payloads import BATCHES_MAX
from bridge.domain.units import Address


@functools.lru_cache(maxsize=64)
def capacity(purse: Purse, coin: Coin, *, create_accounts: bool) -> int:
    """Recipients of `coin` that fit one transaction of `purse` whoever they are, and whichever of them are left out.

    Measured by making such transactions. Leaving a recipient out names it in the memo, which takes less room than
    paying it.
    """
    count = 1
    while _weight(purse, coin, count + 1, create_accounts) <= TRANSACTION_BYTES_MAX:
        count += 1
    assert _weight(purse, coin, count, create_accounts) <= TRANSACTION_BYTES_MAX
    return count


def _weight(purse: Purse, coin: Coin, count: int, create_accounts: bool) -> int:
    strangers = [Address(hashlib.sha256(b"%d" % number).digest()) for number in range(count)]
    creates = create_accounts and not coin.is_native
    transfers = [Transfer(stranger, 1, creates) for stranger in strangers]
    return draft(purse, Deed(bytes(32), BATCHES_MAX - 1), 0, coin, transfers).size
