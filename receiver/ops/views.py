"""Who looked at a delivery's payload: names and card-holder references are in it, so each look leaves a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select, text

from receiver.ops.models import DeliveryView

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

SHOWN: Final = 20
KEPT_DAYS: Final = 400

_FORGET: Final = text("DELETE FROM receiver.delivery_views WHERE viewed_at < now() - make_interval(days => :days)")


def record_view(connection: Connection, delivery_id: int, *, by: str) -> None:
    """Note that a user is shown this delivery, payload included."""
    connection.execute(insert(DeliveryView).values(delivery_id=delivery_id, viewed_by=by))


def list_views(connection: Connection, delivery_id: int) -> list[Row[tuple[str, datetime]]]:
    """Return who looked at it and when, the newest looks first, some of them."""
    query = (
        select(DeliveryView.viewed_by, DeliveryView.viewed_at)
        .where(DeliveryView.delivery_id == delivery_id)
        .order_by(DeliveryView.viewed_at.desc(), DeliveryView.id.desc())
        .limit(SHOWN)
    )
    return list(connection.execute(query))


def delete_old_views(connection: Connection) -> Any:  # noqa: ANN401 - SQLAlchemy's result
    """Delete what is older than ``KEPT_DAYS``."""
    return connection.execute(_FORGET, {"days": KEPT_DAYS})
