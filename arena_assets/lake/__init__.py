"""Tables as Parquet, stores by content, and what makes them safe on a disk."""
