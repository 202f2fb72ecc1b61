-- Whether the surplus of a window could be calculated. Where it could not (a stale price), the next window counts its
-- events too, so nothing is lost. And why a person must look at a decision before it is paid; NULL where nobody must.
ALTER TABLE decisions ADD COLUMN determined BOOLEAN NOT NULL DEFAULT true;
ALTER TABLE decisions ADD COLUMN approval TEXT;
