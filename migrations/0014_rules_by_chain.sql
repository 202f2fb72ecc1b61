-- A rule's text belongs to a chain: the same rule runs on several of them, with the addresses of each in its text, and a
-- newer version may begin on one before another has it.
ALTER TABLE rules ADD COLUMN chain TEXT;
ALTER TABLE decisions DROP CONSTRAINT decisions_rule_version_fkey;
ALTER TABLE rules DROP CONSTRAINT rules_pkey, DROP CONSTRAINT rules_content_hash_key;

-- To each chain that has begun with the rule, what decided there, and what has decided nowhere yet.
INSERT INTO rules (chain, rule, version, content_hash, body, loaded_at)
SELECT s.chain, r.rule, r.version, r.content_hash, r.body, r.loaded_at
  FROM rules r
  JOIN (SELECT chain, rule FROM rule_starts UNION SELECT chain, rule FROM decisions) s USING (rule)
 WHERE EXISTS (SELECT FROM decisions d WHERE (d.chain, d.rule, d.version) = (s.chain, r.rule, r.version))
    OR NOT EXISTS (SELECT FROM decisions d WHERE (d.rule, d.version) = (r.rule, r.version));
DELETE FROM rules WHERE chain IS NULL;

ALTER TABLE rules ALTER COLUMN chain SET NOT NULL,
    ADD PRIMARY KEY (chain, rule, version),
    ADD UNIQUE (chain, content_hash);
ALTER TABLE decisions ADD FOREIGN KEY (chain, rule, version) REFERENCES rules (chain, rule, version);
