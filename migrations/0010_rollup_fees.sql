-- What a rollup takes beside the gas of its own, each told apart in the books. Both are parts of fee_paid; 0 where the chain
-- reports nothing, and of transactions that were settled before it was looked at: their entries stay as they are.
ALTER TABLE attempts
    ADD COLUMN l1_fee       uint256 NOT NULL DEFAULT 0,     -- wei: for the transaction's data on the chain below
    ADD COLUMN operator_fee uint256 NOT NULL DEFAULT 0;     -- wei: to the operator of the chain (OP stack)
