"""A Solana chain, made to look like what the stages know: blocks, logs, batches, proposals, attempts."""
