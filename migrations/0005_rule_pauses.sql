-- A paused rule decides nothing; its events wait, and once it is resumed its windows are decided one by one.
CREATE TABLE rule_pauses (
    pause_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain      TEXT NOT NULL REFERENCES chains,
    rule       TEXT NOT NULL,
    paused     TEXT NOT NULL,               -- who and why, in words
    paused_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    resumed    TEXT,
    resumed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX rule_pauses_open ON rule_pauses (chain, rule) WHERE resumed_at IS NULL;
