"""The form by which deliveries are looked for. Its values are in the page's address, so that a link keeps them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from flask_wtf import FlaskForm
from wtforms import BooleanField, DateField, DateTimeLocalField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Length, Optional, ValidationError

from receiver.deliveries.models import STATUSES
from receiver.ops.deliveries import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

UNRESOLVED: Final = "unresolved"
"""The choice of everything that may need attention."""
BACKLOG: Final = "backlog"
"""The choice of what waits for its first or its next processing attempt."""
UNCONFIRMED: Final = "unconfirmed"
"""The choice of what OpenCard's log does not have."""
FORMATS: Final = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
_STATUSES: Final[dict[str, tuple[str, ...]]] = {UNRESOLVED: (), UNCONFIRMED: (), BACKLOG: ("pending", "failed")}
"""The choices that are no status of a delivery, and what each selects by status."""
LONGEST: Final = 512
"""Characters that are searched for. An event has no such bound: pages link to it by its whole name."""
FIELDS: Final = (
    "status",
    "event",
    "version",
    "organization",
    "since",
    "until",
    "error",
    "transaction",
    "card_holder",
    "only_unresolved",
)


class TimeField(DateTimeLocalField):  # type: ignore[misc]  # wtforms' fields are untyped
    """A time in UTC."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """Parse the time. Raises ``ValueError``, which the page shows."""
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError("Give a time such as 2026-02-13T09:30 (UTC).") from None


class DayField(DateField):  # type: ignore[misc]
    """A day."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """Parse the day. Raises ``ValueError``, which the page shows."""
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError("Give a day such as 2026-02-13.") from None


class FilterForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Which deliveries. Times are in UTC."""

    class Meta:
        """It changes nothing, so it needs no token."""

        csrf = False

    status = SelectField(
        "Status",
        validate_choice=False,
        default="",  # an address without it means any status
        choices=[
            SelectChoice("", "all"),
            SelectChoice(UNRESOLVED, UNRESOLVED),
            SelectChoice(BACKLOG, BACKLOG),
            SelectChoice(UNCONFIRMED, UNCONFIRMED),
            *map(SelectChoice, STATUSES),
        ],
    )
    event = StringField("Event", render_kw={"placeholder": "card.transaction.cleared"})
    version = StringField("Version", [Length(max=LONGEST)], description="none: without a version.")
    organization = SelectField("Organization", validate_choice=False)
    since = TimeField("Received since (UTC)", [Optional()], format=FORMATS)
    until = TimeField("Received before (UTC)", [Optional()], format=FORMATS)
    error = StringField("Error", [Length(max=LONGEST)], description="Part of the first line; * matches anything.")
    transaction = StringField("Transaction", [Length(max=LONGEST)], render_kw={"placeholder": "full transaction ID"})
    card_holder = StringField(
        "Card holder", [Length(max=LONGEST)], render_kw={"placeholder": "full reference", "autocomplete": "off"}
    )

    only_unresolved = BooleanField("Unresolved only", description="Leave out resolved and test deliveries.")

    def validate_status(self, field: SelectField) -> None:
        """Refuse a status that does not exist."""
        if field.data not in {value for value, *_ in field.iter_choices()}:
            raise ValidationError(f"There is no status {field.data}.")

    @property
    def has_more(self) -> bool:
        """Whether a field is filled in, or wrong, that is folded otherwise."""
        folded = (self.since, self.until, self.card_holder, self.error, self.version, self.only_unresolved)
        return any(field.data or field.errors for field in folded)

    @classmethod
    def of(cls, arguments: Any, organizations: Sequence[str]) -> FilterForm:  # noqa: ANN401 - werkzeug's MultiDict
        """Return the form as the address fills it in."""
        form = cls(arguments)
        form.organization.choices = [SelectChoice("", "all"), *map(SelectChoice, organizations)]
        return form

    def wanted(self) -> Filter:
        """Return the filter of a form that is valid."""
        right = {name: field.data for name, field in self._fields.items() if field.data}
        status = right.get("status", "")
        return Filter(
            statuses=_STATUSES.get(status, _each(status)),
            unresolved=status == UNRESOLVED or self.only_unresolved.data,
            unconfirmed=status == UNCONFIRMED,
            events=_each(right.get("event", "").strip()),
            version=right.get("version", "").strip() or None,
            organizations=_each(right.get("organization", "")),
            since=_utc(right.get("since")),
            until=_utc(right.get("until")),
            error=right.get("error", "").strip() or None,
            transaction_id=right.get("transaction", "").strip() or None,
            card_holder_reference_id=right.get("card_holder", "").strip() or None,
        )


def filled_in(arguments: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - werkzeug's MultiDict
    """Return what an address says of the filter, for another address."""
    return [(name, value) for name, value in arguments.items() if name in FIELDS and value]


def problems_of(form: FlaskForm) -> list[str]:
    """Return what is wrong in a form that was validated, by field."""
    return [f"{field.label.text}: {' '.join(field.errors)}" for field in form if field.errors]


def _each(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
