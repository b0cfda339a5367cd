"""The form by which purchases are looked for. Its values are in the page's address, so that a link keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask_wtf import FlaskForm
from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Length, Optional, Regexp, ValidationError

from receiver.ops.console.filter_form import LONGEST, DayField
from receiver.ops.purchases import PurchaseFilter, parse_amount

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHOUT_HELP: Final = {"autocomplete": "off"}


def _is_amount(_: FlaskForm, field: StringField) -> None:
    if field.data:
        try:
            parse_amount(field.data)
        except ValueError as error:
            raise ValidationError("Give an amount such as 245.50.") from error


class PurchaseForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Which purchases. Its fields are those of ``receiver transactions list``."""

    class Meta:
        """It changes nothing, so it needs no token."""

        csrf = False

    organization = SelectField("Organization", validate_choice=False)
    merchant = StringField("Merchant", [Length(max=LONGEST)], render_kw={"placeholder": "part of the name"})
    amount = StringField("Amount", [_is_amount], render_kw={"inputmode": "decimal", "placeholder": "245.50"})
    on = DayField("Day", [Optional()])
    first_day = DayField("From", [Optional()], name="from")
    last_day = DayField("To", [Optional()], name="to")
    tolerance = StringField("Amount may differ by", [_is_amount], render_kw={"inputmode": "decimal"})
    currency = StringField(
        "Currency",
        [Optional(), Regexp(r"[A-Za-z]{3}\Z", message="Give three letters.")],
        render_kw={"placeholder": "EUR"},
    )
    invoice = StringField("Invoice", [Length(max=LONGEST)], render_kw={"placeholder": "full number"})
    transaction = StringField("Transaction", [Length(max=LONGEST)], render_kw={"placeholder": "full transaction ID"})
    card_holder = StringField(
        "Card holder (recorded)", [Length(max=LONGEST)], render_kw={"placeholder": "full reference", **WITHOUT_HELP}
    )
    last_four = StringField(
        "Last four digits of the card (recorded)",
        [Optional(), Regexp(r"[0-9]{4}\Z", message="Give four digits.")],
        render_kw=WITHOUT_HELP,
    )

    def validate_last_day(self, field: DayField) -> None:
        """Refuse days in the wrong order."""
        if self.first_day.data and field.data and self.first_day.data > field.data:
            raise ValidationError("Give a day that is not before the first one.")

    def validate_tolerance(self, field: StringField) -> None:
        """Refuse a tolerance without an amount."""
        if field.data and not self.amount.data:
            raise ValidationError("Give the amount, too.")

    @classmethod
    def of(cls, arguments: Any, organizations: Sequence[str]) -> PurchaseForm:  # noqa: ANN401 - werkzeug's MultiDict
        """Return the form as the address fills it in."""
        form = cls(arguments)
        form.organization.choices = [SelectChoice("", "all"), *map(SelectChoice, organizations)]
        return form

    @property
    def has_more(self) -> bool:
        """Whether a field is filled in, or wrong, that is folded otherwise."""
        return any(field.data or field.errors for field in self.folded)

    @property
    def folded(self) -> Sequence[Any]:
        """The fields that are seldom needed."""
        return (
            self.first_day,
            self.last_day,
            self.tolerance,
            self.currency,
            self.invoice,
            self.transaction,
            self.card_holder,
            self.last_four,
        )

    def wanted(self) -> PurchaseFilter:
        """Return the filter of a form that is valid."""
        right: dict[str, Any] = {
            name: field.data.strip() if isinstance(field.data, str) else field.data
            for name, field in self._fields.items()
            if field.data
        }
        right = {name: value for name, value in right.items() if value}
        day = right.get("on")
        return PurchaseFilter(
            organizations=(right["organization"],) if "organization" in right else (),
            merchant=right.get("merchant"),
            amount=parse_amount(right["amount"]) if "amount" in right else None,
            currency=right["currency"].upper() if "currency" in right else None,
            first_day=day or right.get("first_day"),
            last_day=day or right.get("last_day"),
            invoice_number=right.get("invoice"),
            transaction_id=right.get("transaction"),
            card_holder_reference_id=right.get("card_holder"),
            last_four=right.get("last_four"),
            tolerance=abs(parse_amount(right.get("tolerance", "0"))),
        )
