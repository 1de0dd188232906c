"""Prefect flows: one module per connector, the engine they share, and the operations."""
