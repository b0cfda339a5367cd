"""Bootstrap: compare the desired webhooks with the registered ones, and apply the differences.

- ``desired``   the configuration file, parsed and checked
- ``flags``     which event flags an organization may have, and which to request when OpenCard rejects some; pure
- ``survey``    what is read about each organization before anything is changed
- ``organizations``  the state of the account's organizations after the last run
- ``match``     which registered webhook is which stored one; pure
- ``plan``      compares desired, stored and registered webhooks, and returns the changes; pure
- ``apply``     applies the changes; can be interrupted after any step
- ``endpoint``  our own endpoint, challenged through ``PUBLIC_URL`` as OpenCard would
- ``concurrency``  one run at a time, its organizations in parallel
- ``run``       one run over all organizations
- ``outcome``   the options and the result of a run
- ``applied``   the configuration that an operator last applied, encrypted
- ``schedule``  the job that applies it again
- ``test_webhook``  an organization's webhook for test deliveries
- ``rotation``  new secrets for registered webhooks
- ``models``    tables

Secrets are made by ``receiver.webhooks.generate``, and webhooks are stored by ``receiver.webhooks.store``.
"""
