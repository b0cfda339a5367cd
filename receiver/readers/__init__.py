"""Readers: the roles that may read schema ``ems``, and what they may rely on.

- ``grants``        lets a role read and nothing else, and takes that back
- ``eligibility``   whether a role can become a reader: pure
- ``row_security``  which organizations a restricted reader sees
- ``dictionary``    what every column means, as a page; ``examples`` has a value for each
- ``promises``      the columns of the last release still exist
"""
