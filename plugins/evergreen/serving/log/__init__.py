"""What was answered, kept: local segments first, then Parquet parts in the store."""
