-- Where accounts count nothing, a transaction that is not ours can execute a step before ours is signed: nothing that
-- we signed would ever land, so there is nothing to wait for but what the finalized chain says.

INSERT INTO state_arrows (machine, from_state, to_state) VALUES ('action', 'reserved', 'quarantined');
