"""bridge run."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.daemon import serve
from bridge.runtime.config import load_config
from bridge.runtime.logs import configure_logs


@app.command("run")
def run_daemon(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the daemon: all stages, until SIGTERM or Ctrl-C."""
    # What is loaded by now stays loaded. Unless it is said, each full garbage collection walks through all of it.
    gc.collect()
    gc.freeze()
    run(_serve(config))


async def _serve(path: Path) -> int:
    config = load_config(path)
    configure_logs(config.logs.level, config.logs.format)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await serve(config, stop)
    return 0
