"""Exports: what the EMS reads with SQL, as a file: CSV, JSON lines or Parquet, of any size in little memory."""
