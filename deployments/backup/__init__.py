"""Backup, restore, and the move to another major version of the embedded PostgreSQL.

- `tools` runs PostgreSQL's own programs.
- `places` knows where the two databases of a stack are, running or not.
- `archive` writes and reads the backup file.
- `restore` loads one into an empty folder or into empty databases.
- `upgrade` moves a data folder of an older PostgreSQL into one of ours.
- `successor` lets a finished folder take the place of another.
"""
