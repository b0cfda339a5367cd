"""Bootstrap: the webhooks that are wanted against those that are registered.

- ``desired``   what is wanted: the configuration file, read and checked
- ``secrets``   new secrets, credentials and endpoint keys
- ``stored``    what this service knows of its webhooks, and how that is changed
- ``match``     which registered webhook is which stored one; pure
- ``plan``      wanted, stored, registered → changes; pure
- ``apply``     carries the changes out, each step safe to be interrupted
- ``endpoint``  our own endpoint, challenged through ``PUBLIC_URL`` as OpenCard would
- ``concurrency``  one run at a time, its organizations side by side
- ``run``       one run over all organizations
- ``rotation``  new secrets for webhooks that are registered
"""
