"""Arena Assets: Arena Learning as Dagster assets, an open data flywheel for LLM post-training."""

import os

# No library that comes with us reports anything to anybody. The variables are read at import, so
# this is the one place that comes before all of them; what the user has set stays.
for _name, _value in {
    "DO_NOT_TRACK": "1",  # dbt and others
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
}.items():
    os.environ.setdefault(_name, _value)
