"""Everything about talking to a service. Plain Python: nothing here knows Prefect."""
