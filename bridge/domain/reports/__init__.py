"""What finance, operations and auditors read: books against chain at a named finalized block.

    facts (rows of one snapshot) ──assembly──► report ──► HTML, JSON, tables

A report holds no clock: its time is the time of its cut-off blocks, so the same rows give the same bytes. It is about
all that happened up to the cut-off, or about a period, which begins where the period before it ended:

    ───────────●═══════════════════════●──────────►  blocks
            opening     movements   cut-off
"""
