"""Benchmarks on embedded servers, each compared with its limit or an alternative in the same run: ``python -m bench``.

``bench.intake``     from the POST to the 200, compared with pgbench and the plain way, and step by step
``bench.drain``      from stored to applied, compared with SQL alone and with one RQ job for each delivery
``bench.latency``    from the POST to the row that the EMS can read, at low load
``bench.reconcile``  entries of the delivery log a second, compared with bare fetching and parsing of the same pages
``bench.console``    the console's pages with five million stored deliveries, compared with the limit of 200 ms
``bench.growth``     intake, drain and the questions that are asked all the time, empty and with much stored
``bench.everything`` all parts at once for minutes: latencies, backlog, memory, and whether anything is missing

The machine is shared and noisy, so what is compared runs in turns, round after round, and ratios are of medians.
"""
