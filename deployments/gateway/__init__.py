"""The gateway: the door through which browsers, services and other systems reach us.

    /oauth/callback         a browser comes back from 許可する (`consents`)
    /webhooks/{connection}  a service tells of an event (`webhooks`, `sweeper`)
    /api/v1/…               another system starts a run, reads a result (`api`, `keys`)
    /api/docs               what that is, with nothing loaded from outside (`docs_page`)
    /health, /live          (`health`)

It is a process of its own beside Prefect, holds nothing in memory that must not be lost, and any
number of it may run on one store.
"""
