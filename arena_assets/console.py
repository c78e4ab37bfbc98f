"""What a run says on the terminal: the words of its assets, not every event of the orchestrator."""

import logging
import sys

import dagster as dg


class _AssetWords(logging.Filter):
    """Lets through what an asset logs; Dagster's events and dbt's chatter are in the UI."""

    def filter(self, record: logging.LogRecord) -> bool:
        meta = getattr(record, "dagster_meta", {})
        step = meta.get("step_key") or "run"
        words = meta.get("orig_message") or record.getMessage()
        from_dbt = step.startswith("arena_dbt") and record.levelno < logging.WARNING
        skipped = words.startswith("Dependencies for step")
        if meta.get("dagster_event") is not None or from_dbt or skipped:
            return False
        record.step, record.words = step, words
        return True


@dg.logger(description="The assets' own messages, one line each.")
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger("arena", logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(step)-16s %(words)s", "%H:%M:%S"))
    handler.addFilter(_AssetWords())
    logger.addHandler(handler)
    return logger
