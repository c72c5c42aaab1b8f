"""The server's log: one JSON object a line, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = "ownlm"
_OTHERS = ("uvicorn", "uvicorn.error")


class JSONLines(logging.Formatter):
    """A record as one line of JSON; what is given as ``extra={"fields": {...}}`` stands in it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr() -> None:
    """Sends what ownlm and the web server have to say there; for the process that is the server and nothing else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    for name, level in [(LOGGER, logging.INFO), *((other, logging.WARNING) for other in _OTHERS)]:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler] if name != "uvicorn.error" else [], name == "uvicorn.error"
        logger.setLevel(level)
