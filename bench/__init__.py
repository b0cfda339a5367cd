"""Benchmarks on embedded servers, each beside its limit or its alternative in the same run: ``python -m bench``.

``bench.intake``     from the POST to the 200, beside pgbench, beside the plain way of doing it, and step by step
``bench.drain``      from stored to applied, beside SQL alone and beside one RQ job for each delivery
``bench.latency``    from the POST to the row that the EMS can read, at low load
``bench.reconcile``  entries of the delivery log compared, beside bare fetching and parsing of the same pages
``bench.console``    the console's pages with five million stored deliveries, beside the limit of 200 ms
``bench.growth``     intake, drain and the questions that are asked all the time, empty and with much stored

The machine is shared and noisy, so what is compared runs in turns, round after round, and ratios are of medians.
"""
