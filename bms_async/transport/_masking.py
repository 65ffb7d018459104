"""Keeping a token that was just issued out of the HTTP library's own log.

At DEBUG httpcore logs the headers of every answer as they came, and Keystone hands out its token in one of them. What
an application logs, and where to, stays its own; only the text of that one header is masked.
"""

from __future__ import annotations

import logging
import re

_LOGGERS = tuple(f"{library}.{part}" for library in ("httpcore", "httpcore2") for part in ("http11", "http2", "proxy"))
_TOKEN = re.compile(r"""(x-subject-token['"]\s*,\s*b?)(['"]).*?\2""", re.IGNORECASE)


class _MaskTokens(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "x-subject-token" in text.lower():
            record.msg, record.args = _TOKEN.sub(r"\1'***'", text), None
        return True


_MASK = _MaskTokens()


def mask_tokens() -> None:
    """Mask issued tokens in the logs of httpcore and httpcore2; once is enough, and more changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_MASK)
