-- Which check found a break gone. A break that lasts (a nonce that a stranger spent) is not opened again once a person
-- has resolved it; where a check had cleared it, for a moment's look, it must be.
ALTER TABLE breaks ADD COLUMN cleared_by BIGINT REFERENCES checks (check_id);
