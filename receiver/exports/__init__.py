"""Exports: what the EMS reads with SQL, as a file: CSV, JSON lines or Parquet, of any size in little memory.

- ``export``   one export: its snapshot, its rows, its file
- ``source``   what can be exported, what a window of time means for it, and its query: pure
- ``rows``     what the writers of all formats have in common
- ``formats``  how each format writes rows
- ``cells``    how CSV writes a cell, and what keeps a spreadsheet from taking it for a formula: pure
- ``parquet``  Parquet, with the extra of that name
- ``target``   where it is written: standard output, or a file that is complete or does not exist
"""
