"""For the tests of a program that reads schema ``ems``: a pytest plugin with the whole service behind it.

- ``plugin``   the fixtures ``opencard_stack`` and ``opencard_receiver``, and the option that names a running service
- ``stack``    a service on this machine: started for the tests, or the running one of ``receiver dev``
- ``kit``      ``ReceiverKit``: what a test does with it
- ``emptying`` an empty database for each test

Installed with ``pip install 'opencard-receiver[testing]'``; pytest loads ``plugin`` alone until a fixture is used.
"""
