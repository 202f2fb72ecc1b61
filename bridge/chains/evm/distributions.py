"""What a distribution is called on an EVM chain, whichever contract pays it."""

from __future__ import annotations

from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.domain.errors import HoldError
from bridge.domain.units import Address, AssetId


def derive_id(chain_id: int, contract: Address, rule_id: bytes, window: tuple[int, int], token: Address) -> bytes:
    """ProposalGate.distributionId: of what is paid, by which contract; neither how much nor by which transaction."""
    return keccak(
        encode(
            ["uint256", "address", "bytes32", "uint64", "uint64", "address"],
            [chain_id, contract, rule_id, *window, token],
        )
    )


def token_of(asset: AssetId) -> Address:
    """The token's address. Raises HoldError for what the Distributor cannot pay: anything but an ERC-20."""
    _, _, reference = asset.partition("/")
    namespace, _, address = reference.partition(":0x")
    if namespace != "erc20" or len(address) != 40:
        raise HoldError(f"{asset} cannot be paid: only tokens of the form eip155:…/erc20:0x… can")
    return Address(bytes.fromhex(address))
