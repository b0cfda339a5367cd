"""Webhooks: the registrations at OpenCard that this service manages, and what proves their deliveries.

- ``models``         the tables
- ``managed``        ``ManagedWebhook``: one of them, decrypted
- ``store``          reads and changes them, for commands and bootstrap
- ``directory``      finds the one that a request belongs to, for the web process
- ``credentials``    the ways in which OpenCard authenticates
- ``oauth``          access tokens: issued and verified; ``token_request`` parses what OpenCard sends for one
- ``header_rules``   what may be a header or a credential
- ``generate``       new secrets, credentials and endpoint keys
- ``adoption``       adopts a webhook that was registered elsewhere
- ``listing``        what may be shown
- ``addresses``      the URLs that OpenCard calls
"""
