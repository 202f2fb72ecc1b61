-- Distributions to sets that are too large to push: each is a Merkle tree that its accounts claim from.
--
--   distribution (leg 'claim') ─► proofs published ─► root proposed ─► root activated ─► entitlements
--
-- A tree holds for each account all that it was ever given in one token, so the next tree of a token is planned only
-- when the one before is activated for good, or given up.

ALTER TABLE distributions
    ADD COLUMN leg TEXT NOT NULL DEFAULT 'push' CHECK (leg IN ('push', 'claim')),
    -- set by the publish stage once everybody's proof can be read; nothing is proposed before
    ADD COLUMN published_at TIMESTAMPTZ,
    -- the contract is told of a tree, and takes it, as one step each
    ADD CONSTRAINT distributions_claim_is_one CHECK (leg = 'push' OR batches = 1),
    ADD CONSTRAINT distributions_push_has_no_proofs CHECK (leg = 'claim' OR published_at IS NULL);
CREATE INDEX distributions_of_claims ON distributions (chain, asset) WHERE leg = 'claim';

ALTER TABLE payouts DROP CONSTRAINT payouts_outcome_check;
ALTER TABLE payouts ADD CONSTRAINT payouts_outcome_check CHECK (outcome IN ('paid', 'credited', 'claimable'));

-- What the activated trees of a claims contract give each account in all: the leaves of the newest one.
CREATE TABLE entitlements (
    chain      TEXT NOT NULL REFERENCES chains,
    contract   BYTEA NOT NULL,
    asset      TEXT NOT NULL,
    account    BYTEA NOT NULL,
    cumulative uint256 NOT NULL CHECK (cumulative > 0),
    PRIMARY KEY (chain, contract, asset, account)
);

-- The order in which decisions were made is the order in which they are planned: a database that is rebuilt from the
-- chain makes the same trees.
ALTER TABLE decisions ADD COLUMN decision_number BIGINT GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX decisions_in_order ON decisions (decision_number);
