"""Conditions, derived from what the stages committed; no table of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bridge.domain.conditions import Condition, ConditionName

if TYPE_CHECKING:
    from bridge.store.connection import Connection

LOW_GAS_BALANCE = """
    SELECT s.chain, address_text(s.account) AS subject, s.gas_low_since AS since,
           'holds ' || s.gas_balance || CASE c.kind WHEN 'evm' THEN ' wei' ELSE ' atoms' END
               || ', less than ' || s.gas_wanted AS detail
      FROM senders s JOIN chains c USING (chain) WHERE s.gas_low_since IS NOT NULL
     ORDER BY s.chain, s.account
"""
# Only the lowest nonce of an account: those behind it wait for it. An attempt's age counts from its slot's first one.
NOT_INCLUDED = """
    SELECT DISTINCT ON (s.chain, s.account) s.chain,
           CASE c.kind WHEN 'evm' THEN 'nonce ' || s.nonce ELSE 'step ' || a.action_id END
               || ' of ' || address_text(s.account) AS subject, signed.at AS since,
           'step ' || a.action_id || ', ' || signed.attempts || ' attempts, signed ' || h.head_number - signed.head
               || ' blocks ago; allowed are ' || allowed.blocks AS detail
      FROM slots s
      JOIN actions a USING (action_id)
      JOIN chains c ON c.chain = s.chain
      JOIN heads h ON h.chain = s.chain
      JOIN unnest($1::TEXT[], $2::BIGINT[]) AS allowed (chain, blocks) ON allowed.chain = s.chain
      JOIN LATERAL (
          SELECT min(signed_head) AS head, min(signed_at) AS at, count(*) AS attempts
            FROM attempts WHERE slot_id = s.slot_id
      ) AS signed ON TRUE
     WHERE s.state = 'live' AND a.state IN ('signed', 'broadcast') AND h.head_number - signed.head >= allowed.blocks
     ORDER BY s.chain, s.account, s.nonce
"""
QUARANTINE = """
    SELECT a.chain, 'step ' || a.action_id || ' of 0x' || encode(a.distribution_id, 'hex') AS subject,
           (SELECT max(c.confirmed_at) FROM confirmations c
             WHERE c.action_id = a.action_id AND c.to_state = 'quarantined') AS since,
           a.reason AS detail
      FROM actions a WHERE a.state = 'quarantined'
     ORDER BY a.action_id
"""
UNEXPECTED_OUTFLOW = """
    SELECT chain, 'break ' || break_id AS subject, opened_at AS since,
           subject || COALESCE(', ' || amount || ' atoms of ' || asset, '')
               || CASE state WHEN 'open' THEN '; nothing new is sent' ELSE '' END AS detail
      FROM breaks WHERE kind = 'unexpected_out' AND state IN ('open', 'assigned')
     ORDER BY break_id
"""
BROKEN_SEAL = """
    -- Of all chains: they have one ledger.
    SELECT 'all' AS chain, 'books' AS subject, min(fault_at) AS since,
           string_agg(DISTINCT fault, '; ' ORDER BY fault)
               || CASE WHEN EXISTS (SELECT FROM breaks
                                     WHERE check_subject = 'seals' AND state IN ('assigned', 'explained'))
                       THEN '' ELSE '; nothing new is sent' END AS detail
      FROM seal_walks WHERE fault IS NOT NULL HAVING count(*) > 0
"""


class Conditions:
    """Reads; never writes. Open it from `Database.snapshot()`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, included_within: Mapping[str, int]) -> list[Condition]:
        """All that hold now; `included_within`: by chain, how many blocks a transaction may take."""
        asked: list[tuple[ConditionName, str, tuple[object, ...]]] = [
            (ConditionName.LOW_GAS_BALANCE, LOW_GAS_BALANCE, ()),
            (ConditionName.NOT_INCLUDED, NOT_INCLUDED, (list(included_within), list(included_within.values()))),
            (ConditionName.QUARANTINE, QUARANTINE, ()),
            (ConditionName.UNEXPECTED_OUTFLOW, UNEXPECTED_OUTFLOW, ()),
            (ConditionName.BROKEN_SEAL, BROKEN_SEAL, ()),
        ]
        return [
            Condition(name, row["chain"], row["subject"], row["since"], row["detail"])
            for name, query, arguments in asked
            for row in await self._connection.fetch(query, *arguments)
        ]
