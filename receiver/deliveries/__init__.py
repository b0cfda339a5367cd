"""Deliveries: requests are authenticated, stored as received, and answered.

- ``endpoint``        the HTTP route
- ``receive``         the steps of a delivery: authenticate, store, wake a worker
- ``authentication``  checks signature and credentials: pure
- ``challenge``       answers OpenCard's challenges: pure
- ``bodies``          reads a request's body, up to a limit
- ``headers``         which headers are stored
- ``committer``       stores waiting deliveries together, and answers them after the commit
- ``accepted``        the answer to a stored delivery
- ``store``           the statement that stores them
- ``token_endpoint``  issues access tokens, for webhooks that are authenticated by OAuth
- ``models``          tables
- ``views``           the view ``receiver.deliveries``
"""
