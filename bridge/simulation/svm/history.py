"""Which transactions there are, by signature and by account."""

from __future__ import annotations

from bisect import bisect_left

from bridge.simulation.svm.records import Record


class History:
    """All transactions of the blocks that are kept. Both indexes hold exactly the same records."""

    def __init__(self) -> None:
        self._by_signature: dict[str, Record] = {}
        self._by_account: dict[str, list[Record]] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._by_signature)

    def __contains__(self, signature: str) -> bool:
        return signature in self._by_signature

    def find(self, signature: str) -> Record | None:
        """The transaction with this id."""
        return self._by_signature.get(signature)

    def of_account(self, account: str) -> list[Record]:
        """All transactions that name this account, oldest first. Not to be changed."""
        return self._by_account.get(account, [])

    def before(self, account: str, record: Record) -> int:
        """How many of the account's transactions are older than `record`."""
        return bisect_left(self.of_account(account), _key(record), key=_key)

    def add(self, record: Record) -> None:
        """The newest transaction."""
        assert record.signature not in self._by_signature, "a transaction lands once"
        self._by_signature[record.signature] = record
        for account in _accounts(record):
            self._by_account.setdefault(account, []).append(record)

    def take_back(self, record: Record) -> None:
        """Forget the newest transaction: its block is on a dead fork."""
        del self._by_signature[record.signature]
        for account in _accounts(record):
            last = self._by_account[account].pop()
            assert last is record, "forks are taken back newest first"
            if not self._by_account[account]:
                del self._by_account[account]

    def clean_up(self, records: list[Record]) -> None:
        """Forget the oldest transactions: their blocks are no longer kept."""
        gone: dict[str, int] = {}
        for record in records:
            del self._by_signature[record.signature]
            for account in _accounts(record):
                gone[account] = gone.get(account, 0) + 1
        for account, count in gone.items():
            of_account = self._by_account[account]
            del of_account[:count]
            if not of_account:
                del self._by_account[account]


def _accounts(record: Record) -> set[str]:
    return {str(key) for key in record.loaded.keys}


def _key(record: Record) -> tuple[int, int]:
    return record.place.slot, record.place.index
