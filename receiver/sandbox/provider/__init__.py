"""OpenCard's HTTP API on this machine: to run and test a client of it over real HTTP.

Like the rest of the sandbox it shares nothing with the receiver but the contract.

::

    provider = Provider()
    client = provider.clients.add("ems", scopes=RECOMMENDED)
    provider.state.add_organization("acme")
    with serving(provider) as url:
        ...  # environment(url, client) is what a receiver has to know

- ``server``          ``serving``: on loopback, in a thread
- ``provider``        ``Provider``: all of it together; ``Behaviour``: what the contract leaves open
- ``api``             the steps of a request: fault, token, scope, account, route, record
- ``routes``          what each route does with a ``Call`` (``call``)
- ``scopes``          scopes, and which route needs which
- ``clients``         OAuth clients and tokens
- ``state``           organizations, webhooks, headers, groups, the delivery log: the dashboard's side, too
- ``resources``       these things as values
- ``billing``         billing profiles, the flags they allow, and how others are rejected
- ``html``            login pages, for requests that do not accept JSON
- ``webhook_fields``  a webhook's fields: read, checked, shown
- ``shown``           how the other things are shown
- ``log``             the attempts to deliver to a webhook, in whatever order
- ``log_style``       ``LogStyle``: how the delivery log is spelled
- ``log_item``        an attempt in that spelling
- ``rewrite_json``    the same JSON as another system might write it
- ``pages``           lists in pages
- ``events``          events and their flags
- ``delivery``        ``deliver_story``: to each webhook what it wants, every attempt into its log
- ``files``           downloads of receipts
- ``send_test``       test deliveries
- ``run``             ``serve_until_stopped``: the API and a stream of stories, for ``receiver sandbox``
- ``faults``          what goes wrong, on demand
- ``requests``        what was asked
- ``control``         faults and requests over HTTP, for a sandbox in another process
- ``refusals``        errors and their statuses
"""

from receiver.sandbox.provider.delivery import Delivered, deliver_story, events_for, ready_webhooks, reference_ids
from receiver.sandbox.provider.faults import ApiFault
from receiver.sandbox.provider.log_style import LogStyle
from receiver.sandbox.provider.provider import Behaviour, Provider, environment
from receiver.sandbox.provider.requests import SeenRequest
from receiver.sandbox.provider.resources import (
    Client,
    IssuedToken,
    ProviderGroup,
    ProviderHeader,
    ProviderLogEntry,
    ProviderOrganization,
    ProviderWebhook,
)
from receiver.sandbox.provider.scopes import RECOMMENDED, SCOPES
from receiver.sandbox.provider.server import serving

__all__ = [
    "RECOMMENDED",
    "SCOPES",
    "ApiFault",
    "Behaviour",
    "Client",
    "Delivered",
    "IssuedToken",
    "LogStyle",
    "Provider",
    "ProviderGroup",
    "ProviderHeader",
    "ProviderLogEntry",
    "ProviderOrganization",
    "ProviderWebhook",
    "SeenRequest",
    "deliver_story",
    "environment",
    "events_for",
    "ready_webhooks",
    "reference_ids",
    "serving",
]
