"""OpenCard's API: tokens with just the scopes that are needed, and what this service asks for with them.

- ``routes``         every route used here, with its scope
- ``scopes``         the catalogue of scopes, the recommended set, and which command needs which
- ``auth``           the token flow: exactly these scopes, cached, asked for once more after a 401
- ``tokens``         where tokens are kept for all processes, encrypted
- ``client``         one request: time-outs, retries, typed errors
- ``lists``          lists that shift while they are read
- ``failures``       from an answer to a typed error
- ``webhooks``       organizations, webhooks, custom headers, buyer-party groups
- ``oauth_clients``  the account's OAuth clients
- ``secret_file``    a file for a secret that is told only once
- ``delivery_log``   the log of the attempts to deliver to a webhook, page by page, in any order
- ``delivery_log_item``  one attempt in it, in any spelling
- ``files``          files that events tell the URL of: asked of OpenCard's own host alone
"""
