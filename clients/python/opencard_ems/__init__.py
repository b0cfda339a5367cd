"""Typed reading of schema ``ems``: rows as dataclasses, models of SQLAlchemy, and a follower of the change feed."""

from opencard_ems.follow import Batch, EventsDeletedError, follow
from opencard_ems.read import connect, exact_json, read

__all__ = ["Batch", "EventsDeletedError", "connect", "exact_json", "follow", "read"]
