"""What a transaction of ours says on chain, and the account that lets it happen once.

A payout transaction creates an account whose address is derived from the operator and from what is paid:

    id, index ─sha256─► seed ─┐
                  operator ───┴─create_with_seed─► marker        exists ⇔ the batch was executed, or cancelled

A second transaction for the same batch fails as a whole, whoever holds the operator's key and whatever a database has
forgotten. Nothing can remove a marker: its owner is the address of no program. Who funds the address beforehand changes
nothing: it is allocated, not created.

The memo says for people and for `read_deed` what the transaction is for. Anyone can write such a memo, so it counts
only together with the instruction that creates its very marker, which only the operator can have signed:

    bridge:1:<id, hex>:p:<content hash, hex>          the proposal
    bridge:1:<id, hex>:p:<content hash, hex>:k=<n>    the same, of batches of n recipients: more than fit without tables
    bridge:1:<id, hex>:<index>                        a batch, all of it
    bridge:1:<id, hex>:<index>:x=<address>,<address>  a batch without these recipients, ascending as bytes
    bridge:1:<id, hex>:<index>:x#<n>                  the same, of n recipients that are named elsewhere
    bridge:1:<id, hex>:<index>:c                      a batch that is given up; of a proposal: p:c

Where lookup tables let a batch pay more recipients, naming one in the memo takes more room than paying it. So they are
named as further accounts of the instruction that creates the marker, which looks at its first two only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import AllocateWithSeedParams, allocate_with_seed

from bridge.chains.solana.programs import MEMO, SYSTEM
from bridge.domain.payouts import CANCELLED
from bridge.domain.units import Address

MARKER_BYTES = 1
"""An account of no bytes could be made by sending lamports to its address."""

MARKER_OWNER, _ = Pubkey.find_program_address([b"bridge: marker"], MEMO)
"""Off the curve, so nobody can have a key for it and deploy a program there."""

INDEX_MAX = 2**31 - 2
"""So that the ordinal, one more, fits what a database keeps."""

ROOM_MAX = 999
"""Recipients of one batch, and of those the ones that are left out: more than any transaction holds."""

MEMO_START = "bridge:1:"
"""Of everything that we write."""

_MEMO = re.compile(
    MEMO_START + r"(?P<id>[0-9a-f]{64}):"
    r"(?:p:(?:(?P<content>[0-9a-f]{64})(?::k=(?P<room>[1-9][0-9]{0,2}))?|(?P<no_proposal>c))"
    r"|(?P<index>0|[1-9][0-9]{0,9})"
    r"(?:(?P<no_batch>:c)|:x=(?P<left_out>[1-9A-HJ-NP-Za-km-z,]+)|:x#(?P<elsewhere>[1-9][0-9]{0,2}))?)"
)


@dataclass(frozen=True, slots=True)
class Deed:
    """What one transaction does, as its memo says. Invariant: `read_memo(deed.memo) == deed`, but for those who are
    named `elsewhere`."""

    distribution_id: bytes  # 32 bytes
    index: int | None  # of the batch; None: the proposal
    content_hash: bytes | None = None  # of a proposal, 32 bytes
    left_out: tuple[Address, ...] = ()  # recipients of the batch that it does not pay; strictly ascending
    cancels: bool = False  # it creates the marker and does nothing else
    room: int | None = None  # of a proposal: recipients a batch, where tables made room for more
    elsewhere: int = 0  # how many were left out that the memo does not name itself; all or none of them

    def __post_init__(self) -> None:
        assert len(self.distribution_id) == 32
        assert self.index is None or 0 <= self.index <= INDEX_MAX
        assert (self.content_hash is not None) == (self.index is None)
        assert not (self.left_out and (self.index is None or self.cancels))
        assert list(self.left_out) == sorted(set(self.left_out))
        assert self.room is None or (self.index is None and not self.cancels and 1 <= self.room <= ROOM_MAX)
        assert self.elsewhere in (0, len(self.left_out)) or not self.left_out
        assert not self.elsewhere or (self.index is not None and not self.cancels and self.elsewhere <= ROOM_MAX)

    @property
    def memo(self) -> str:
        what = f"{MEMO_START}{self.distribution_id.hex()}:"
        if self.index is None:
            assert self.content_hash is not None
            room = "" if self.room is None else f":k={self.room}"
            return what + ("p:c" if self.cancels else f"p:{self.content_hash.hex()}{room}")
        if self.cancels:
            return f"{what}{self.index}:c"
        if self.elsewhere:
            return f"{what}{self.index}:x#{self.elsewhere}"
        left_out = ",".join(str(Pubkey(recipient)) for recipient in self.left_out)
        return f"{what}{self.index}" + (f":x={left_out}" if left_out else "")

    @property
    def shortened(self) -> Deed:
        """The same with a memo that names nobody."""
        return replace(self, elsewhere=len(self.left_out))

    @property
    def cancelled(self) -> Deed:
        """The deed that takes this one's place for good and pays nothing."""
        content = CANCELLED if self.index is None else None
        return Deed(self.distribution_id, self.index, content, cancels=True)


def read_memo(text: str) -> Deed | None:
    """The deed that a memo of ours names; None for any other text. Strict: one deed has one text."""
    found = _MEMO.fullmatch(text)
    if found is None:
        return None
    distribution_id = bytes.fromhex(found["id"])
    if found["index"] is None:
        cancels = found["no_proposal"] is not None
        content = CANCELLED if cancels else bytes.fromhex(found["content"])
        room = None if found["room"] is None else int(found["room"])
        deed = Deed(distribution_id, None, content, cancels=cancels, room=room)
        return None if content == CANCELLED and not cancels else deed
    index = int(found["index"])
    left_out = _addresses(found["left_out"])
    if index > INDEX_MAX or left_out is None:
        return None
    elsewhere = int(found["elsewhere"] or 0)
    return Deed(distribution_id, index, left_out=left_out, cancels=found["no_batch"] is not None, elsewhere=elsewhere)


def _addresses(text: str | None) -> tuple[Address, ...] | None:
    if text is None:
        return ()
    try:
        keys = [Pubkey.from_string(part) for part in text.split(",")]
    except ValueError:
        return None
    addresses = tuple(Address(bytes(key)) for key in keys)
    ascending = list(addresses) == sorted(set(addresses))
    return addresses if ascending and ",".join(map(str, keys)) == text else None


# ── The account ─────────────────────────────────────────────────────────────────────────────────────────────────────
def marker_seed(distribution_id: bytes, index: int | None) -> str:
    """At most 32 bytes are allowed: 128 bits of the hash, of what only the operator chooses."""
    of = b"proposal" if index is None else b"%d" % index
    return hashlib.sha256(b"bridge:" + distribution_id + b":" + of).hexdigest()[:32]


def marker_of(operator: Address, distribution_id: bytes, index: int | None) -> Address:
    """The account that exists once the batch (None: the proposal) was executed or cancelled by `operator`."""
    seed = marker_seed(distribution_id, index)
    return Address(bytes(Pubkey.create_with_seed(Pubkey(operator), seed, MARKER_OWNER)))


def create_marker(
    operator: Address, distribution_id: bytes, index: int | None, also: Sequence[Address] = ()
) -> Instruction:
    """Fails where the marker exists already. The address must have been funded. `also`: accounts that it names."""
    made = allocate_with_seed(
        AllocateWithSeedParams(
            address=Pubkey(marker_of(operator, distribution_id, index)),
            base=Pubkey(operator),
            seed=marker_seed(distribution_id, index),
            space=MARKER_BYTES,
            owner=MARKER_OWNER,
        )
    )
    named = [AccountMeta(Pubkey(account), is_signer=False, is_writable=False) for account in also]
    return Instruction(made.program_id, bytes(made.data), [*made.accounts, *named])


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a transaction that is in a block, at the top level."""

    program: bytes
    accounts: tuple[bytes, ...]
    data: bytes


def read_deed(steps: Iterable[Step], operators: Collection[Address]) -> tuple[Address, Deed] | None:
    """Which of `operators` did what in a transaction that succeeded, given all its instructions in order.

    None where it is no transaction of ours: it has not exactly one memo that names a deed, or does not create that
    deed's marker. The system program lets only the operator itself do that.
    """
    steps = list(steps)
    memos = [step.data for step in steps if step.program == bytes(MEMO)]
    deeds = [deed for data in memos if (deed := read_memo(data.decode("utf-8", "replace"))) is not None]
    if len(deeds) != 1:
        return None
    [deed] = deeds
    allocations = {(step.accounts[:2], step.data): step.accounts[2:] for step in steps if step.program == bytes(SYSTEM)}
    for operator in operators:
        wanted = create_marker(operator, deed.distribution_id, deed.index)
        also = allocations.get((tuple(bytes(meta.pubkey) for meta in wanted.accounts), bytes(wanted.data)))
        if also is not None:
            named = tuple(map(Address, also))
            is_whole = len(named) == deed.elsewhere and list(named) == sorted(set(named))
            return (operator, replace(deed, left_out=named or deed.left_out)) if is_whole else None
    return None
