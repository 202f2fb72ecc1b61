"""Structured logs: one record a line on standard error, fixed messages, values in fields, an `action` in each."""

from __future__ import annotations

import logging
import sys

import structlog

from bridge.domain.units import format_hash


def configure_logs(level: str, style: str) -> None:
    """`level` is one of debug, info, warning, error; `style` is json (for machines) or console (for people)."""
    renderer: structlog.typing.Processor
    renderer = structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hex_bytes,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries speak through logging; their warnings belong in the same stream, their chatter nowhere.
    form = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=form, force=True)
    # asyncpg logs stack traces of lost connections; the supervisor says that, in one line.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)


def _hex_bytes(
    _logger: structlog.typing.WrappedLogger, _method: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Bytes become text as format_hash has it; integers above 2^53, which JSON readers would round, become digits."""
    for key, value in record.items():
        if isinstance(value, bytes):
            record[key] = format_hash(value)
        elif type(value) is int and abs(value) > 2**53:
            record[key] = str(value)
    return record


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(component=name)
    return logger
