"""OpenCard's API: tokens with only the needed scopes, and the requests that this service sends.

- ``routes``         every route used here, with its scope
- ``scopes``         the catalogue of scopes, the recommended set, and which command needs which
- ``auth``           the token flow: exactly these scopes, cached, renewed once after a 401
- ``tokens``         the tokens stored for all processes, encrypted
- ``client``         one request: time-outs, retries, typed errors
- ``lists``          lists that change while they are read
- ``failures``       from an answer to a typed error
- ``webhooks``       organizations, webhooks, custom headers, buyer-party groups
- ``oauth_clients``  the account's OAuth clients
- ``secret_file``    a file for a secret that OpenCard shows only once
- ``delivery_log``   the log of the attempts to deliver to a webhook, page by page, in any order
- ``delivery_log_item``  one attempt in it, in any spelling
- ``files``          downloads of files whose URLs events contain, only from OpenCard's own host
- ``billings``       billing profiles, which decide the webhook flags that an organization may have
- ``models``         the table of tokens
"""
