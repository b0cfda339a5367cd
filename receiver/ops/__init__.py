"""Operations: what the people who run the service look at and do.

- ``health``     ``/healthz`` and ``/readyz``
- ``status``     the status of the service; ``metrics`` gives the same to Prometheus
- ``attention``  what needs attention, a line each
- ``counted``    what all processes have counted, for ``metrics``
- ``workers``    which there are
- ``activity``   deliveries by hour, rates, failures by their cause; ``rollup`` keeps what they need
- ``doctor``     is everything as it should be? With ``doctor_findings``, ``doctor_stores``, ``doctor_opencard``
- ``send_test``  has OpenCard send a test delivery; ``sent_test`` reports it
- ``deliveries``  what is stored: lists, searches, everything about one delivery
- ``replay``     stored deliveries processed again; ``replay_selection``: which; ``replay_state``: what came of it
- ``retention``   what was kept long enough goes
- ``keys``       everything secret under the newest key
- ``console``    the pages at ``/ops/``
- ``views``      who looked at a delivery's payload
- ``models``     the operators' doings
- ``counter_models``  what is counted
"""
