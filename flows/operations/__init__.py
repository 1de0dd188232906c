"""Flows that a person runs besides the connectors themselves."""
