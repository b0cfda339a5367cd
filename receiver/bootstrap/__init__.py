"""Bootstrap: the webhooks that are wanted against those that are registered.

- ``desired``   what is wanted: the configuration file, read and checked
- ``secrets``   new secrets, credentials and endpoint keys
- ``stored``    what this service knows of its webhooks, and how that is changed
- ``flags``     which events an organization may have, and what to ask for when OpenCard rejects some; pure
- ``survey``    what is read of each organization before anything is changed
- ``organizations``  what is remembered of the account's organizations
- ``match``     which registered webhook is which stored one; pure
- ``plan``      wanted, stored, registered → changes; pure
- ``apply``     carries the changes out, each step safe to be interrupted
- ``endpoint``  our own endpoint, challenged through ``PUBLIC_URL`` as OpenCard would
- ``concurrency``  one run at a time, its organizations side by side
- ``run``       one run over all organizations
- ``outcome``   what a run shall do, and what it found and did
- ``applied``   the configuration that an operator last applied, encrypted
- ``schedule``  the job that applies it again
- ``test_webhook``  the webhook of an organization that is only for test deliveries
- ``rotation``  new secrets for webhooks that are registered
"""
