-- What waits for a person, batch by batch: one that is held itself, or that cannot go because its proposal is held.
CREATE VIEW held_batches AS
SELECT a.action_id, a.distribution_id, a.ordinal - 1 AS batch_index, a.chain, h.reason, h.updated_at AS since
  FROM actions h
  JOIN actions a ON a.distribution_id = h.distribution_id
                AND (a.action_id = h.action_id OR (h.ordinal = 0 AND a.state = 'planned'))
 WHERE h.state = 'held' AND a.kind = 'execute';
