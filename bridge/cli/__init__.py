"""The command line: parses arguments, calls what does the work, prints.

Exit codes: 0 done and true · 1 the answer is no (not balanced, an open break, no such id) · 2 a mistake to mend in the
configuration or the command · 3 the world is not ready (a node or the database does not answer) · 70 a fault of ours.
"""

from bridge.cli.main import main

__all__ = ["main"]
