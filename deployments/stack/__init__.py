"""The local stack: PostgreSQL, Prefect server, emulators and a warm worker, as one thing.

The parts, each in a module of its own:

- ``settings``: what a person may set (``APP_CONNECT_*``) and the Prefect environment it leads to.
- ``ports``: a busy port is said in words before anything starts.
- ``postgres``: the embedded PostgreSQL and its two databases.
- ``processes``: children, their logs, their health, their end; ``guard`` for a killed supervisor.
- ``server``: the command and the health of the Prefect server.
- ``worker_main``: the process of the warm worker.
- ``stack``: everything in order.
"""
