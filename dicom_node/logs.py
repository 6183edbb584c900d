"""Structured logs on standard error: events, reasons and digests, never patient data."""

import logging
import sys
import threading
import warnings
from typing import Any

import structlog
from pynetdicom import _config

from dicom_node.settings import Log


def configure(settings: Log) -> None:
    """Set up this process's logs, and silence what libraries would say of the data."""
    plain = settings.json_lines or not sys.stderr.isatty()
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.json_lines
        else structlog.dev.ConsoleRenderer(colors=not plain)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    silence_libraries()
    threading.excepthook = _thread_died


def silence_libraries() -> None:
    """Let no library write values of a data set to the terminal."""
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    """Count what ended a thread; a library's message could hold a peer's bytes."""
    structlog.get_logger().error("thread_died", error=arguments.exc_type.__name__)
