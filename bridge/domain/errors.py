"""Every error the bridge raises on purpose, split by what the one who catches it can do.

BridgeError
├── ConfigError        the operator mends a file or a flag; exit code 2, no stack trace
├── RetryableError     the world is not ready; the same call may work later
│   ├── ChainUnavailable    no endpoint answered, or none answered usefully
│   ├── ChainDisagrees      two endpoints, or two reads, say different things
│   │   └── StateUnavailable    no endpoint has the state of that block: behind, or no archive node
│   ├── SourceUnavailable   a source of prices did not answer
│   └── DatabaseUnavailable
├── HoldError          only a person can decide; what it concerns stays as it is
│   └── DeepReorg           a reorganisation below a finalized block
└── RefusedError       the caller broke a rule of the data; retrying cannot help
    ├── LeaseLost           another instance holds a newer epoch
    ├── IllegalTransition   the arrow is not in domain/states.py
    ├── JournalConflict     the same (source, ref) with another payload
    └── NotInClaimSet       the account has nothing to claim under that root
"""


class BridgeError(Exception):
    """Base of all errors below; never raised itself."""


class ConfigError(BridgeError):
    """A mistake in what the operator wrote. `where` names the file, line or field, `mend` says what to do."""

    def __init__(self, problem: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.mend = mend
        lines = [f"{where}: {problem}" if where else problem]
        if mend:
            lines.append(f"  mend: {mend}")
        super().__init__("\n".join(lines))


class RetryableError(BridgeError):
    """The world is not ready; the same call may work later."""


class ChainUnavailable(RetryableError):
    """No endpoint of a chain gave a usable answer."""


class ChainDisagrees(RetryableError):
    """Two reads that must be equal are not; nothing may be built on either."""


class StateUnavailable(ChainDisagrees):
    """No endpoint has the state after a block. One that is behind will; one that forgets old states never does."""


class SourceUnavailable(RetryableError):
    """A source of prices off the chain gave no answer."""


class DatabaseUnavailable(RetryableError):
    """The database cannot be reached or dropped the connection."""


class HoldError(BridgeError):
    """Only a person can decide how to go on."""


class DeepReorg(HoldError):
    """The chain contradicts a block that was final."""


class RefusedError(BridgeError):
    """The data refuses the operation; retrying cannot help."""


class LeaseLost(RefusedError):
    """Another instance holds a newer epoch of the lease."""


class IllegalTransition(RefusedError):
    """A state machine has no such arrow."""


class JournalConflict(RefusedError):
    """The same (source, ref) was booked with another payload."""


class NotInClaimSet(RefusedError):
    """The account has no leaf in the tree."""

    def __init__(self, account: bytes, root: bytes) -> None:
        super().__init__(f"0x{account.hex()} has nothing to claim: it is not in the set with root 0x{root.hex()}")
