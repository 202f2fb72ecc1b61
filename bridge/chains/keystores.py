"""The file that an encrypted key is in, whatever the chain: how it is encrypted the chain's own signer knows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bridge.domain.errors import ConfigError


def read_keystore(path: Path, *, plain: re.Pattern[str], where: str, mend: str) -> dict[str, Any] | None:
    """The JSON object in the file; None where something else is in it.

    Raises ConfigError about `where`, which says `mend`: for a file that cannot be read, and for one whose text is
    `plain`, a private key that is not encrypted. It never repeats what the file holds.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where=where, mend=mend) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a keystore", where=where, mend=mend) from None
    if plain.match(text):
        raise ConfigError(f"{path} holds a private key in plain text, which is refused", where=where, mend=mend)
    try:
        keystore = json.loads(text)
    except json.JSONDecodeError:
        return None
    return keystore if isinstance(keystore, dict) else None
