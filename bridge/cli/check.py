"""bridge check."""

from __future__ import annotations

from pathlib import Path

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.daemon import open_services
from bridge.domain.units import format_address
from bridge.runtime.config import load_config
from bridge.runtime.logs import configure_logs


@app.command("check")
def check_configuration(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Hold a configuration against database, chains, keys and rules, as `bridge run` does when it starts; run nothing.

    Exits 2 with file, line, field and mend where something does not fit.
    """
    run(_check(config))


async def _check(path: Path) -> int:
    config = load_config(path)
    configure_logs(config.logs.level, config.logs.format)
    async with open_services(config, sending=True) as services:
        for chain in services.chains:
            head = await chain.reader.node_head()
            print(f"{chain.name}: {chain.reader.reference}, block {head:,}")
            print(f"  vault     {format_address(chain.watched.vault)}")
            print(f"  operator  {format_address(chain.watched.operator)}")
            print(f"  tokens    {', '.join(token.symbol for token in chain.watched.tokens)}")
            rules = ", ".join(f"{rule.name} v{rule.plan.rule.version}" for rule in chain.rules)
            print(f"  rules     {rules or 'none'}")
    print("everything fits")
    return 0
