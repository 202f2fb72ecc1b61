"""When a distribution passed which milestone: columns of every query that says so.

They are about `d`, a distribution, and `e`, its decision; see domain.figures.Milestones. A block that we saw before its
own time has a clock that is ahead of ours: it was mined when we saw it.
"""

from __future__ import annotations

MILESTONE_COLUMNS = """
           LEAST(block_time(e.chain, e.block_number),
                 (SELECT extract(epoch FROM min(b.added_at))::BIGINT FROM blocks b
                   WHERE b.chain = e.chain AND b.number = e.block_number)) AS mined_at,
           extract(epoch FROM e.decided_at)::BIGINT AS decided_at,
           (SELECT extract(epoch FROM max(c.confirmed_at))::BIGINT
              FROM actions a JOIN confirmations c USING (action_id)
             WHERE a.distribution_id = d.distribution_id AND c.to_state = 'final') AS final_at,
           (SELECT extract(epoch FROM max(j.recorded_at))::BIGINT
              FROM generate_series(0, d.batches - 1) AS batch
              JOIN journal_keys k ON (k.source, k.ref) = ('batch', encode(d.distribution_id, 'hex') || ':' || batch)
              JOIN journals j USING (chain, block_number, journal_id)) AS posted_at
"""
