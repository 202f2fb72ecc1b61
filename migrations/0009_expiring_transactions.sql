-- Chains whose transactions expire rather than compete for a nonce, and on which keeping an account costs a deposit.

ALTER TABLE attempts
    ADD COLUMN valid_through BIGINT,                -- by the chain's own count of blocks; NULL: the bytes never expire
    ADD COLUMN deposits uint256 NOT NULL DEFAULT 0; -- native coin left in accounts that the transaction made

COMMENT ON COLUMN attempts.tx_id IS 'as the chain names it: a hash, or the first signature';

-- An address as its chain writes it (bridge/domain/units.py): 32 bytes as base58, any other as 0x hex.
CREATE FUNCTION address_text(address BYTEA) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    alphabet CONSTANT TEXT := '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
    number NUMERIC := 0;
    text TEXT := '';
BEGIN
    IF length(address) <> 32 THEN
        RETURN '0x' || encode(address, 'hex');
    END IF;
    FOR at IN 0..31 LOOP
        number := number * 256 + get_byte(address, at);
    END LOOP;
    WHILE number > 0 LOOP
        text := substr(alphabet, 1 + mod(number, 58)::INTEGER, 1) || text;
        number := div(number, 58);
    END LOOP;
    FOR at IN 0..31 LOOP
        EXIT WHEN get_byte(address, at) <> 0;
        text := '1' || text;
    END LOOP;
    RETURN text;
END
$$;
