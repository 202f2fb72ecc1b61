"""What `bridge reconcile` says to options that do not fit together, before it opens anything."""

import pytest

from bridge.cli.reconciliation import reconcile_books
from bridge.domain.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"asset": "USDX"}, "--asset: says nothing by itself"),
        ({"start": "2026-11-01"}, "give --from and --to, and nothing else"),
        ({"end": "2026-11-01"}, "give --from and --to, and nothing else"),
        ({"start": "2026-11-01", "end": "2026-11-02", "account": "vault"}, "give --from and --to, and nothing else"),
        ({"start": "yesterday", "end": "2026-11-02"}, "--from yesterday: is not a time"),
        ({"start": "2026-11-01", "end": "2026-13-01"}, "--to 2026-13-01: is not a time"),
        ({"start": "2026-11-02", "end": "2026-11-02"}, "--to 2026-11-02: is not after 2026-11-02"),
        ({"start": "2026-11-01T12:00+02:00", "end": "2026-11-01T10:00"}, "is not after"),
    ],
)
def test_reconcile__options_that_do_not_fit__refused(options: dict[str, str], said: str):
    with pytest.raises(ConfigError) as caught:
        reconcile_books(**options)  # type: ignore[arg-type]
    assert said in str(caught.value)
