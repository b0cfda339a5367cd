"""Every spelling of the delivery log that the contract allows, for hypothesis."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from receiver.sandbox.provider import LogStyle
from receiver.sandbox.provider import log_style as spelled

log_styles = st.builds(
    LogStyle,
    payload_name=st.sampled_from(get_args(spelled.PayloadName)),
    payload_form=st.sampled_from(get_args(spelled.PayloadForm)),
    reserialized=st.booleans(),
    time_name=st.sampled_from(get_args(spelled.TimeName)),
    time_form=st.sampled_from(get_args(spelled.TimeForm)),
    microseconds=st.booleans(),
    status_name=st.sampled_from(get_args(spelled.StatusName)),
    status_form=st.sampled_from(get_args(spelled.StatusForm)),
    id_name=st.sampled_from((*get_args(spelled.IdName), None)),
    order=st.sampled_from(get_args(spelled.Order)),
    unknown_fields=st.booleans(),
    seed=st.integers(min_value=0, max_value=2**32),
)
"""Nothing is left out of these logs; ``dataclasses.replace`` adds what is."""
