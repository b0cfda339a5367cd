"""A practised restore: a backup restored next to production, examined and recovered, and thrown away.

- ``backups``  which kind a backup is, and PostgreSQL's programs
- ``server``   the backup restored and started
- ``examine``  what the restored copy lacks, and what would recover it
"""
