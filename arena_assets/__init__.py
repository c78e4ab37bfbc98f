"""Arena Assets: Arena Learning (arXiv 2407.10627) as Dagster assets."""
