"""What every kind of chain gives the daemon."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.chains.evm.claim_folder import ClaimFolder
from bridge.domain.ledger import Watched
from bridge.ports.paying import Payer
from bridge.ports.reading import ChainReader, ClaimedAmounts, Executions, History, PriceFeeds


@dataclass(frozen=True, slots=True)
class Opened:
    """A chain whose endpoints answer and are the configured one's."""

    reader: ChainReader
    history: History
    watched: Watched
    payer: Payer | None  # None where nothing is sent: commands that only read need no key
    feeds: PriceFeeds
    files: ClaimFolder | None  # None where everything is pushed
    executions: Executions | None = None  # None where events alone say what was executed
    claimed: ClaimedAmounts | None = None  # None where nothing is claimed
